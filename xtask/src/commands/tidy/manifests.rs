//! Rules about Cargo.toml and Cargo.lock: the arrows between our crates, where SDKs may live, what is never linked. No general TOML reader.

use super::{File, Finding};

/// Which of our crates may depend on which, beside the binary, which may depend on all.
const ARROWS: [(&str, &[&str]); 9] = [
    ("runbooks", &[]),
    ("store", &[]),
    ("engine", &["lifeboat-runbooks", "lifeboat-store"]),
    ("steps", &["lifeboat-engine"]),
    ("report", &["lifeboat-engine", "lifeboat-runbooks"]),
    ("server", &["lifeboat-engine", "lifeboat-runbooks", "lifeboat-report"]),
    ("xtask", &[]),
    ("fuzz", &["lifeboat-engine", "lifeboat-runbooks"]),
    // Measures the product from outside of it; nothing depends on it.
    ("bench", &["lifeboat-engine", "lifeboat-runbooks", "lifeboat-store"]),
];
/// Beginnings of the names of crates that talk to the outside; only `steps` may know them.
const SDKS: [&str; 6] = ["aws-", "hickory-", "tokio-postgres", "kube", "redis", "reqwest"];
/// Crates that must not be linked, and why.
const BANNED: [(&str, &str); 5] = [
    ("aws-lc-rs", "a second TLS library that needs cmake; ring is the one in use"),
    ("aws-lc-sys", "a second TLS library that needs cmake; ring is the one in use"),
    ("openssl", "it ties the binary to a library of the system"),
    ("openssl-sys", "it ties the binary to a library of the system"),
    ("native-tls", "it ties the binary to a library of the system"),
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let manifests = files.iter().filter(|file| file.name() == "Cargo.toml");
    let mut findings: Vec<Finding> = manifests.flat_map(|file| [arrows(file), lints(file)].concat()).collect();
    findings.extend(files.iter().filter(|file| file.path == "Cargo.lock").flat_map(banned));
    findings
}

fn arrows(file: &File) -> Vec<Finding> {
    let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
        return vec![Finding::new(file, 1, format!("the crate `{folder}` is not in the layout; add its arrows to tidy and to the design"))];
    };
    let mut findings = Vec::new();
    for (line, name) in dependencies(&file.text) {
        let ours = name.starts_with("lifeboat") || name == "xtask";
        if ours && !allowed.contains(&name) {
            findings.push(Finding::new(file, line, format!("`{folder}` must not depend on `{name}`")));
        }
        if !ours && folder != "steps" && SDKS.iter().any(|sdk| name.starts_with(sdk)) {
            findings.push(Finding::new(file, line, format!("only `steps` may depend on `{name}`")));
        }
        if name.starts_with("lifeboat") && text_of(&file.text, line).contains("mutants") {
            findings.push(Finding::new(file, line, "the product must not have the feature `mutants`: only tests break promises"));
        }
        if folder == "xtask" {
            findings.push(Finding::new(file, line, format!("xtask has no dependencies, so that it starts at once: `{name}`")));
        }
    }
    findings
}

fn text_of(text: &str, line: usize) -> &str {
    text.lines().nth(line.saturating_sub(1)).unwrap_or_default()
}

/// The names under `[dependencies]`, with their lines. Dependencies of tests are free.
fn dependencies(text: &str) -> Vec<(usize, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                found.push((number, name));
            }
        }
    }
    found
}

fn lints(file: &File) -> Vec<Finding> {
    if file.text.contains("[lints]\nworkspace = true") {
        return Vec::new();
    }
    vec![Finding::new(file, 1, "the crate does not take the workspace's lints: `[lints]` with `workspace = true`")]
}

fn banned(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        for (banned, why) in BANNED {
            if name == Some(banned) {
                findings.push(Finding::new(file, number, format!("`{banned}` is linked: {why}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn an_arrow_that_the_layout_does_not_have_is_found() {
        let good = format!("{LINTS}[dependencies]\nlifeboat-engine = {{ workspace = true }}\n");
        assert_eq!(messages("steps/Cargo.toml", &good), Vec::<String>::new());
        assert_eq!(messages("store/Cargo.toml", &good), ["`store` must not depend on `lifeboat-engine`"]);
    }

    #[test]
    fn a_dependency_of_tests_is_free() {
        let manifest = format!("{LINTS}[dev-dependencies]\nlifeboat-store.workspace = true\n");
        assert_eq!(messages("steps/Cargo.toml", &manifest), Vec::<String>::new());
    }

    #[test]
    fn a_product_that_could_break_its_promises_is_found() {
        let dependency = "lifeboat-engine = { workspace = true, features = [\"mutants\"] }\n";
        let product = format!("{LINTS}[dependencies]\n{dependency}");
        assert_eq!(messages("steps/Cargo.toml", &product).len(), 1);
        assert_eq!(messages("steps/Cargo.toml", &format!("{LINTS}[dev-dependencies]\n{dependency}")).len(), 0);
    }

    #[test]
    fn an_sdk_outside_of_steps_is_found() {
        let manifest = format!("{LINTS}[dependencies]\naws-sdk-route53.workspace = true\n");
        assert_eq!(messages("engine/Cargo.toml", &manifest), ["only `steps` may depend on `aws-sdk-route53`"]);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(messages("engine/Cargo.toml", "[dependencies]\n").len(), 1);
    }

    #[test]
    fn a_banned_crate_in_the_lock_is_found() {
        assert_eq!(messages("Cargo.lock", "[[package]]\nname = \"openssl-sys\"\nversion = \"0.9\"\n").len(), 1);
        assert_eq!(messages("Cargo.lock", "[[package]]\nname = \"openssl-probe\"\nversion = \"0.1\"\n").len(), 0);
    }
}
