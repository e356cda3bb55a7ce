//! "Did you mean ...?": the nearest of the known names. What to do with it is the caller's.

/// The known name that is most like `wrong`, if one is like it at all.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Names longer than this are compared by nobody: the comparison's work is the product of both lengths.
    const LETTERS_MAX: usize = 64;
    /// More names than this are not looked through: the help is a courtesy, and a file may hold 10,000 names and as many slips.
    const NAMES_MAX: usize = 1000;
    if wrong.len() > LETTERS_MAX {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(wrong);
    let mut best: Option<(usize, &str)> = None;
    for name in known.into_iter().take(NAMES_MAX) {
        if name.len().abs_diff(wrong.len()) > LETTERS_MAX / 3 {
            continue;
        }
        crate::work::spend(name.len() * wrong.len() / 8 + 1);
        if name.len() > LETTERS_MAX {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&wanted, &plain(name));
        let (wrong_letters, letters) = (wrong.chars().count(), name.chars().count());
        let allowed = (wrong_letters.max(letters) / 3).max(1);
        // Something must be left of the name: `c` is no slip for `a`.
        if distance <= allowed && distance < wrong_letters.min(letters) && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Help for a wrong name: the nearest one, or all of them where they are few.
pub(crate) fn instead(wrong: &str, known: &[&str]) -> Option<String> {
    /// Longer lists hide more than they tell.
    const LISTED_MAX: usize = 12;
    if let Some(name) = nearest(wrong, known.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    match known {
        [] => None,
        [only] => Some(format!("write `{only}`")),
        _ if known.len() <= LISTED_MAX => Some(format!("write one of {}", list(known))),
        _ => Some(format!("there are {} to choose from, for example {}", known.len(), list(&known[..LISTED_MAX]))),
    }
}

/// `` `a`, `b`, `c` ``.
pub(crate) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["promote-db", "update-dns", "timeout"];
        assert_eq!(nearest("promote_db", known), Some("promote-db"));
        assert_eq!(nearest("timout", known), Some("timeout"));
        assert_eq!(nearest("updaet-dns", known), Some("update-dns"));
        assert_eq!(nearest("xyz", known), None);
        assert_eq!(nearest("c", ["a", "b"]), None);
        assert_eq!(nearest("t0", ["to"]), Some("to"));
    }
}
