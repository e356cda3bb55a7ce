//! How pictures look: colours for light and dark, fonts, icons and hatchings. What is drawn where is in `graph` and `timeline`.

use crate::marks::Mark;
use crate::words::escape;

/// Light values, then dark ones. The page uses the same names.
pub(crate) const PALETTE: &str = "--bg:#ffffff;--card:#f5f7f9;--ink:#171b20;--dim:#57606b;--line:#cbd2da;--good:#14794a;--bad:#c22f2a;--attention:#a86200;--active:#1b64d1;--quiet:#79838f";
pub(crate) const PALETTE_DARK: &str = "--bg:#101418;--card:#181e24;--ink:#e8ecf0;--dim:#a0abb6;--line:#3a444f;--good:#4fc58d;--bad:#ff736d;--attention:#f2b750;--active:#74b6ff;--quiet:#85909c";

/// How the classes of pictures look.
pub(crate) const RULES: &str = ".lb text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px;fill:var(--ink)}\
.lb .id{font-weight:600;font-size:13px}.lb .dim{fill:var(--dim)}.lb .small{font-size:11px}.lb .end{text-anchor:end}.lb .mid{text-anchor:middle}.lb .light{font-weight:400}\
.lb .ground{fill:var(--bg)}.lb .card{fill:var(--card);stroke:var(--line);stroke-width:1.2}\
.lb .line{stroke:var(--line);stroke-width:1;fill:none}.lb .wire{stroke:var(--quiet);stroke-width:1.4;fill:none}.lb .wire.hot{stroke:var(--ink);stroke-width:2.2}\
.lb .tip{fill:var(--quiet)}.lb .tip.hot{fill:var(--ink)}\
.lb .return{stroke:var(--bad);stroke-width:1.6;stroke-dasharray:7 5;fill:none}.lb .hair{stroke-dasharray:2 4}.lb .maybe{stroke-dasharray:5 4}\
.lb .s-good{stroke:var(--good)}.lb .s-bad{stroke:var(--bad)}.lb .s-attention{stroke:var(--attention)}.lb .s-active{stroke:var(--active)}.lb .s-quiet{stroke:var(--quiet)}\
.lb .f-good{fill:var(--good)}.lb .f-bad{fill:var(--bad)}.lb .f-attention{fill:var(--attention)}.lb .f-active{fill:var(--active)}.lb .f-quiet{fill:var(--quiet)}.lb .f-ink{fill:var(--ink)}\
.lb .bold{stroke-width:2.2}.lb .pen{stroke:var(--bg);stroke-width:2;fill:none;stroke-linecap:round;stroke-linejoin:round}.lb .pen.hollow{stroke:var(--quiet)}\
.lb .hollow-ring{fill:var(--bg);stroke:var(--quiet);stroke-width:1.4}.lb text.onfill{fill:var(--bg);font-weight:700}.lb text.t-bad{fill:var(--bad);font-weight:600}.lb text.t-good{fill:var(--good);font-weight:600}.lb text.t-attention{fill:var(--attention);font-weight:600}\
.lb text.halo{stroke:var(--bg);stroke-width:4px;paint-order:stroke;stroke-linejoin:round}.lb .ready{stroke-width:3;fill:none}.lb .away{fill:var(--quiet);opacity:.22}.lb .halt{fill:var(--attention);opacity:.12}.lb .soft{opacity:.3}.lb .faint{opacity:.55}";

/// Begins a picture of this size with a title for those who cannot see it.
pub(super) fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lb\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>.lb{{{PALETTE}}}@media (prefers-color-scheme:dark){{.lb{{{PALETTE_DARK}}}}}@media print{{.lb{{{PALETTE}}}}}{RULES}</style>\n\
         <title>{title}</title>\n<rect class=\"ground\" width=\"{}\" height=\"{}\"/>\n",
        n(width),
        n(height),
        n(width),
        n(height),
        n(width),
        n(height)
    )
}

/// A number with one decimal at most.
pub(super) fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// Text at a place; classes choose its look.
pub(super) fn label(x: f64, y: f64, class: &str, text: &str) -> String {
    format!("<text x=\"{}\" y=\"{}\" class=\"{class}\">{}</text>\n", n(x), n(y), escape(text))
}

/// A guess at how wide 12 px text is, on the safe side.
pub(super) fn text_width(text: &str, px: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "labels are short")]
    let count = text.chars().count() as f64;
    count * px * 0.58
}

/// A state's icon: a filled disc with a sign, hollow where nothing happened. Shape tells the state; colour only helps.
pub(super) fn icon(x: f64, y: f64, mark: Mark) -> String {
    let quiet = mark.tone.class() == "quiet";
    let disc = if quiet { "hollow-ring".to_owned() } else { format!("f-{}", mark.tone.class()) };
    let pen = if quiet { "pen hollow" } else { "pen" };
    let path = match mark.sign {
        '✓' => "M-4.2 .4L-1.2 3.4L4.4-3.4",
        '✗' => "M-3.4-3.4L3.4 3.4M3.4-3.4L-3.4 3.4",
        '‖' => "M-2.6-3.6V3.6M2.6-3.6V3.6",
        '▸' => "M-2.2-3.8L4 0L-2.2 3.8Z",
        '–' => "M-3.6 0H3.6",
        '↻' => "M3.8-1.6A4.2 4.2 0 1 0 4 1.8M4.3-4.6V-1.2H.9",
        '↩' => "M-3.8-.6H1.6A2.6 2.6 0 0 1 1.6 4.6H-1.4M-1-3.4L-3.8-.6L-1 2.2",
        '◇' => "M0-4.2L4.2 0L0 4.2L-4.2 0Z",
        '!' => "M0-4.6V1.2M0 4.2V4.3",
        '?' => "M-2.6-2.2A2.7 2.7 0 1 1 .9 .3Q0 .8 0 1.8M0 4.5V4.6",
        _ => "M0 0H.1",
    };
    format!("<g transform=\"translate({} {})\"><circle r=\"9.5\" class=\"{disc}\"/><path class=\"{pen}\" d=\"{path}\"/></g>\n", n(x), n(y))
}

/// The icon as a picture of its own, for the page.
pub(crate) fn icon_alone(mark: Mark) -> String {
    format!(
        "<svg class=\"lb\" width=\"22\" height=\"22\" viewBox=\"-11 -11 22 22\" aria-hidden=\"true\">{}</svg>",
        icon(0.0, 0.0, mark).trim_end()
    )
}

/// Hatchings, told apart by direction: people (`/`), doubt (crossed), undoing (`\`), unsure (`|`), paused or frozen (`=`). Names are the picture's own, because
/// browsers do not draw with a pattern that stands in a hidden picture.
pub(super) fn hatchings(own: &str) -> String {
    let one = |name: &str, tone: &str, path: &str| {
        format!(
            "<pattern id=\"{own}-{name}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect width=\"8\" height=\"8\" class=\"f-{tone} soft\"/>\
             <path d=\"{path}\" class=\"s-{tone}\" stroke-width=\"1.6\" fill=\"none\"/></pattern>\n"
        )
    };
    format!(
        "<defs>\n{}{}{}{}{}</defs>\n",
        one("people", "attention", "M-2 2L2-2M0 8L8 0M6 10L10 6"),
        one("doubt", "attention", "M0 0L8 8M8 0L0 8"),
        one("undo", "quiet", "M-2 6L2 10M0 0L8 8M6-2L10 2"),
        one("unsure", "bad", "M2 0V8M6 0V8"),
        one("stopped", "attention", "M0 2H8M0 6H8")
    )
}
