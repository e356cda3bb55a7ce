//! Pages and pictures stay whole and harmless whatever a journal holds.

use std::collections::BTreeSet;

use crate::judge::tests::{lossy_night, overridden_night};
use crate::shown::{HOSTILE, hostile_night, hostile_question, nights};
use crate::{graph, html, timeline_svg};

/// A tag of a page: its name, whether it closes, and its attributes.
#[derive(Debug)]
struct Tag {
    name: String,
    closes: bool,
    empty: bool,
    attributes: Vec<(String, String)>,
}

/// Reads tags as a browser would: quotes protect, and everything else ends at `>`.
fn tags(page: &str) -> Vec<Tag> {
    let mut all = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let mut quoted = false;
        let end = rest.char_indices().find(|(_, c)| {
            quoted ^= *c == '"';
            *c == '>' && !quoted
        });
        let (inside, tail) = rest.split_at(end.expect("a tag is not closed").0);
        rest = &tail[1..];
        let closes = inside.starts_with('/');
        let empty = inside.ends_with('/');
        let inside = inside.trim_matches('/');
        let name_end = inside.find(|c: char| c.is_whitespace()).unwrap_or(inside.len());
        let (name, mut attributes_text) = inside.split_at(name_end);
        let mut attributes = Vec::new();
        while let Some((name, tail)) = attributes_text.trim_start().split_once("=\"") {
            let (value, tail) = tail.split_once('"').expect("an attribute is quoted");
            attributes.push((name.to_owned(), value.to_owned()));
            attributes_text = tail;
        }
        assert!(attributes_text.trim().is_empty() || name == "!doctype", "unquoted text in a tag: {inside:?}");
        // What stands in a style sheet is no markup.
        if name == "style" && !closes {
            rest = &rest[rest.find("</style>").expect("a style sheet ends")..];
        }
        all.push(Tag { name: name.to_owned(), closes, empty, attributes });
    }
    all
}

const VOID: [&str; 2] = ["meta", "br"];

fn balanced(page: &str) {
    let mut open: Vec<String> = Vec::new();
    for tag in tags(page) {
        if tag.name == "!doctype" || tag.empty || VOID.contains(&tag.name.as_str()) {
            continue;
        }
        if tag.closes {
            assert_eq!(open.pop().as_deref(), Some(tag.name.as_str()), "a wrong end tag");
        } else {
            open.push(tag.name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

/// Everything that a page or picture is made of. A tag or attribute that text could smuggle in is not among it.
fn harmless(page: &str) {
    const TAGS: &str = "!doctype html head meta title style body header footer section div span h1 h2 h3 p b i br ul li table tr td th dl dt dd details summary code blockquote svg g rect path circle text defs pattern";
    const ATTRIBUTES: &str = "lang charset http-equiv content name class style xmlns viewBox width height role aria-label aria-hidden preserveAspectRatio fill opacity d x y r rx id patternUnits stroke-width transform";
    let (names, attributes): (BTreeSet<&str>, BTreeSet<&str>) = (TAGS.split(' ').collect(), ATTRIBUTES.split(' ').collect());
    for tag in tags(page) {
        assert!(names.contains(tag.name.as_str()), "a page has no {tag:?}");
        for (name, value) in &tag.attributes {
            assert!(attributes.contains(name.as_str()), "a page has no attribute {name}={value:?}");
            assert!(!value.contains("url(") || value.starts_with("url(#"), "{value} leads away");
        }
    }
    let bad = page
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c) || ('\u{2066}'..='\u{2069}').contains(c));
    assert_eq!(bad, None);
}

#[test]
fn the_page_of_a_run_with_an_override_says_so_on_top_and_is_not_green() {
    let tale = overridden_night();
    let page = html(&tale.report(), &tale.plan);
    let head = &page[page.find("<header").unwrap()..page.find("</header>").unwrap()];
    assert!(head.starts_with("<header class=\"verdict attention\">"), "{head}");
    assert!(head.contains("with an override: bob skipped the denied approval (accept); bob declared the fence done (fence)"), "{head}");
}

#[test]
fn nothing_foreign_becomes_markup() {
    for tale in HOSTILE.iter().flat_map(|evil| [hostile_night(evil), hostile_question(evil)]) {
        let report = tale.report();
        for page in [html(&report, &tale.plan), timeline_svg(&report), graph::svg(&tale.plan, Some(&report)), graph::svg(&tale.plan, None)]
        {
            balanced(&page);
            harmless(&page);
        }
    }
}

#[test]
fn pages_and_pictures_are_whole() {
    for (_, tale) in nights() {
        let report = tale.report();
        for page in [html(&report, &tale.plan), timeline_svg(&report), graph::svg(&tale.plan, Some(&report)), graph::svg(&tale.plan, None)]
        {
            balanced(&page);
            harmless(&page);
        }
    }
}

#[test]
fn a_page_needs_no_network_and_runs_no_script() {
    let tale = lossy_night();
    let page = html(&tale.report(), &tale.plan);
    assert!(page.contains("Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'"));
    for leads_away in ["src=", "href=", "@import", "url(h", "url(/", "<script", "<link", "<iframe"] {
        assert!(!page.contains(leads_away), "{leads_away}");
    }
}

#[test]
fn nothing_foreign_breaks_out_of_a_graph_in_text() {
    let lines = |text: &str| text.lines().count();
    for evil in HOSTILE {
        let (tame, wild) = (hostile_night("tame").plan, hostile_night(evil).plan);
        assert_eq!(
            (lines(&graph::mermaid(&tame)), lines(&graph::dot(&tame))),
            (lines(&graph::mermaid(&wild)), lines(&graph::dot(&wild))),
            "{evil:?}"
        );
        for line in graph::mermaid(&wild).lines().filter(|line| line.contains('"')) {
            assert_eq!(line.matches('"').count(), 2, "{line}");
            assert!(!line.contains('`') && line.matches('<').count() == line.matches("<br/>").count(), "{line}");
        }
        for line in graph::dot(&wild).lines().filter(|line| line.contains("label=")) {
            let unescaped = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            assert!(unescaped.is_multiple_of(2), "{line}");
        }
    }
}

#[test]
fn graphs_in_text_read_like_the_plan() {
    let plan = lossy_night().plan;
    insta::assert_snapshot!("mermaid", graph::mermaid(&plan));
    insta::assert_snapshot!("dot", graph::dot(&plan));
}

#[test]
fn a_plan_too_large_to_draw_says_so() {
    let mut plan = lossy_night().plan;
    plan.steps = (0..2000).map(|n| crate::tale::step(&format!("s{n}"), "wait", &[], None)).collect();
    let picture = graph::svg(&plan, None);
    assert!(picture.contains("2000 steps") && picture.len() < 8000);
    assert_eq!(graph::mermaid(&plan).lines().count(), 2001);
}

#[test]
fn a_long_run_is_drawn_within_bounds() {
    let steps = (0..400).map(|n| crate::tale::step(&format!("s{n}"), "wait", &[], None)).collect();
    let mut tale = crate::tale::Tale::begins(crate::tale::plan("failover", steps), 0);
    for n in 0..400 {
        tale = tale.at(n * 10).starts(&format!("s{n}"), 1).at(n * 10 + 5).done(&format!("s{n}"), vec![]);
    }
    let report = tale.report();
    let picture = timeline_svg(&report);
    balanced(&picture);
    assert!(picture.contains("and 250 more steps"));
}

#[test]
fn every_state_is_told_by_a_word_and_not_by_colour_alone() {
    for (name, tale) in nights() {
        let report = tale.report();
        let picture = graph::svg(&tale.plan, Some(&report));
        for step in &report.steps {
            let word = crate::marks::of_state(step.state).word;
            assert!(picture.contains(&format!("{} · {word}", step.step_type)), "{name}: {} is not said to be {word}", step.id);
        }
    }
}
