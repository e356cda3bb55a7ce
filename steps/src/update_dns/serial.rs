//! Comparing SOA serials (RFC 1982): they wrap, so that `4294967295` is older than `0`.

use std::cmp::Ordering;

/// Which serial is newer, or `None` where they are half the circle apart and nobody can tell.
#[must_use]
pub fn compare(one: u32, other: u32) -> Option<Ordering> {
    const HALF: u32 = 1 << 31;
    match one.wrapping_sub(other) {
        0 => Some(Ordering::Equal),
        HALF => None,
        distance if distance < HALF => Some(Ordering::Greater),
        _ => Some(Ordering::Less),
    }
}

/// Whether a server with serial `seen` has everything that serial `needed` has.
#[must_use]
pub fn has_reached(seen: u32, needed: u32) -> bool {
    matches!(compare(seen, needed), Some(Ordering::Equal | Ordering::Greater))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_wrap_around() {
        assert!(has_reached(0, u32::MAX));
        assert!(!has_reached(u32::MAX, 0));
        assert!(has_reached(5, 5));
        assert!(has_reached(2_147_483_652, 5));
        assert!(!has_reached(4, 5));
    }

    #[test]
    fn half_the_circle_apart_nobody_can_tell() {
        assert_eq!(compare(2_147_483_648, 0), None);
        assert!(!has_reached(2_147_483_648, 0) && !has_reached(0, 2_147_483_648));
    }
}
