//! Reasoning in a reply: what stands before `</think>` is no verdict.

/// The part of a reply behind its reasoning; `None` if the reasoning does not end.
pub(crate) fn answer(reply: &str) -> Option<&str> {
    match reply.rsplit_once("</think>") {
        Some((_, answer)) => Some(answer),
        None => (!reply.trim_start().starts_with("<think>")).then_some(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_reasoning_is_read() {
        assert_eq!(answer("A"), Some("A"));
        assert_eq!(answer("<think>A? No.</think>\nB"), Some("\nB"));
        // Templates that open the reasoning themselves.
        assert_eq!(answer("A? No.</think>B"), Some("B"));
        assert_eq!(answer(" <think>A it is, or B"), None);
    }
}
