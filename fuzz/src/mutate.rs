//! Changes of an input that keep some of its structure: of its bytes, its lines, its words, and of the values inside JSON.

use serde_json::Value;

use crate::chance::Chance;

/// Largest input that is made. Readers have limits of their own for larger ones, and tests for those.
pub const BYTES_MAX: usize = 4096;

/// Some changes of the text, one after the other; `other` is another input to take parts from.
#[must_use]
pub fn text(chance: &mut Chance, base: &str, other: &str, words: &[&str]) -> String {
    let mut text = base.to_owned();
    // Mostly one change or two: with many, little of what was good is left.
    let most = 1 + chance.below(5);
    for _ in 0..=chance.below(most) {
        match chance.below(12) {
            0..=2 => insert(chance, &mut text, words),
            3 => remove(chance, &mut text),
            4 => repeat(chance, &mut text),
            5 | 6 => lines(chance, &mut text, other),
            7 => splice(chance, &mut text, other),
            8 => letter(chance, &mut text),
            9 => indent(chance, &mut text),
            10 => replace_word(chance, &mut text, words),
            _ => number(chance, &mut text),
        }
    }
    cut(&mut text);
    text
}

/// Bytes changed without regard for anything.
pub fn bytes(chance: &mut Chance, base: &mut Vec<u8>) {
    for _ in 0..=chance.below(4) {
        let place = chance.below(base.len() + 1);
        match chance.below(4) {
            0 => base.insert(place, chance.draw().to_le_bytes()[0]),
            1 if place < base.len() => base[place] ^= 1 << chance.below(8),
            2 if place < base.len() => drop(base.remove(place)),
            _ => base.truncate(base.len() - chance.below(base.len().min(16) + 1)),
        }
    }
    base.truncate(BYTES_MAX);
}

/// One change somewhere inside a JSON value: another leaf, a key or an item more or less, or the part of another value.
pub fn json(chance: &mut Chance, value: &mut Value, leaves: &[&str]) {
    let stop = chance.one_in(3);
    match value {
        Value::Object(entries) if !entries.is_empty() && !stop => {
            let place = chance.below(entries.len());
            if let Some((_, inner)) = entries.iter_mut().nth(place) {
                json(chance, inner, leaves);
            }
        }
        Value::Array(items) if !items.is_empty() && !stop => {
            let place = chance.below(items.len());
            json(chance, &mut items[place], leaves);
        }
        Value::Object(entries) => {
            let key = entries.keys().nth(chance.below(entries.len())).cloned();
            match (key, chance.below(3)) {
                (Some(key), 0) => drop(entries.remove(&key)),
                (Some(key), 1) => {
                    if let Some(moved) = entries.remove(&key) {
                        entries.insert((*chance.one(leaves)).to_owned(), moved);
                    }
                }
                _ => drop(entries.insert((*chance.one(leaves)).to_owned(), leaf(chance, leaves))),
            }
        }
        Value::Array(items) if items.is_empty() || chance.one_in(2) => items.push(leaf(chance, leaves)),
        Value::Array(items) => {
            let place = chance.below(items.len());
            items.remove(place);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => *value = leaf(chance, leaves),
    }
}

fn leaf(chance: &mut Chance, leaves: &[&str]) -> Value {
    match chance.below(9) {
        0 => Value::Null,
        1 => Value::Bool(chance.one_in(2)),
        2 => Value::from(chance.below(4)),
        3 => Value::from(chance.draw()),
        4 => Value::from(-1_i64),
        5 => serde_json::json!({}),
        6 => serde_json::json!([]),
        _ => Value::from(*chance.one(leaves)),
    }
}

fn place(chance: &mut Chance, text: &str) -> usize {
    let at = chance.below(text.len() + 1);
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn range(chance: &mut Chance, text: &str, longest: usize) -> std::ops::Range<usize> {
    let from = place(chance, text);
    let to = from + chance.below(longest + 1);
    let to = (from..=to.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    from..to
}

fn insert(chance: &mut Chance, text: &mut String, words: &[&str]) {
    let at = place(chance, text);
    let word = *chance.one(words);
    text.insert_str(at, word);
}

fn remove(chance: &mut Chance, text: &mut String) {
    let range = range(chance, text, 24);
    text.replace_range(range, "");
}

fn repeat(chance: &mut Chance, text: &mut String) {
    let range = range(chance, text, 40);
    let part = text[range.clone()].to_owned();
    let times = if chance.one_in(20) { 40 } else { 1 };
    text.insert_str(range.start, &part.repeat(times));
}

fn lines(chance: &mut Chance, text: &mut String, other: &str) {
    let mut all: Vec<&str> = text.split_inclusive('\n').collect();
    if all.is_empty() {
        return;
    }
    let (a, b) = (chance.below(all.len()), chance.below(all.len()));
    match chance.below(5) {
        0 => all.swap(a, b),
        1 => drop(all.remove(a)),
        2 => all.insert(b, all[a]),
        3 => all.truncate(a + 1),
        _ => {
            let theirs: Vec<&str> = other.split_inclusive('\n').collect();
            if !theirs.is_empty() {
                let line = theirs[chance.below(theirs.len())];
                all.insert(b, line);
            }
        }
    }
    *text = all.concat();
}

fn splice(chance: &mut Chance, text: &mut String, other: &str) {
    let part = other[range(chance, other, 200)].to_owned();
    let at = range(chance, text, 200);
    text.replace_range(at, &part);
}

fn letter(chance: &mut Chance, text: &mut String) {
    const ODD: [char; 16] = [
        '\0',
        '\t',
        '\r',
        '\u{7f}',
        '\u{85}',
        '\u{a0}',
        '\u{e9}',
        '\u{200b}',
        '\u{202e}',
        '\u{2028}',
        '\u{feff}',
        '\u{fffd}',
        '\u{1f600}',
        '"',
        '\'',
        '\\',
    ];
    let at = place(chance, text);
    if chance.one_in(2) {
        text.insert(at, *chance.one(&ODD));
    } else if let Some(letter) = char::from_u32(u32::try_from(chance.below(0x11_0000)).unwrap_or(0)) {
        text.insert(at, letter);
    }
}

fn indent(chance: &mut Chance, text: &mut String) {
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let at = *chance.one(&starts);
    if chance.one_in(2) {
        text.insert_str(at, &" ".repeat(1 + chance.below(4)));
    } else if text[at..].starts_with(' ') {
        text.remove(at);
    }
}

fn replace_word(chance: &mut Chance, text: &mut String, words: &[&str]) {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let at = place(chance, text);
    let start =
        text[..at].rfind(|letter| !is_word(letter)).map_or(0, |before| before + text[before..].chars().next().map_or(1, char::len_utf8));
    let end = text[at..].find(|letter| !is_word(letter)).map_or(text.len(), |after| at + after);
    let word = *chance.one(words);
    text.replace_range(start..end.max(start), word);
}

fn number(chance: &mut Chance, text: &mut String) {
    const NUMBERS: [&str; 12] =
        ["0", "-1", "1", "9", "10", "4096", "65536", "2147483648", "9223372036854775808", "18446744073709551616", "1e999", "0.1"];
    if let Some(at) = text.find(|letter: char| letter.is_ascii_digit()) {
        let end = text[at..].find(|letter: char| !letter.is_ascii_digit()).map_or(text.len(), |after| at + after);
        let other = *chance.one(&NUMBERS);
        text.replace_range(at..end, other);
    } else {
        insert(chance, text, &NUMBERS);
    }
}

fn cut(text: &mut String) {
    if text.len() > BYTES_MAX {
        let end = (0..=BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
