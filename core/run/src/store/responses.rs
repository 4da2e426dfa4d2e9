//! Which responses to one sample differ in text.

use isr_api::Response;

/// Indices of the two responses that are compared where only two are: the first, and the first whose text
/// differs from it. `None` where all texts are equal up to surrounding white space.
pub fn first_difference(responses: &[Response]) -> Option<[usize; 2]> {
    match *distinct_responses(responses) {
        [one, other, ..] => Some([one, other]),
        _ => None,
    }
}

/// Indices of the responses with distinct texts, up to surrounding white space; of equal texts the first.
pub(crate) fn distinct_responses(responses: &[Response]) -> Vec<usize> {
    let text = |at: usize| responses[at].text.trim();
    let mut distinct: Vec<usize> = Vec::new();
    for at in 0..responses.len() {
        if distinct.iter().all(|&other| text(other) != text(at)) {
            distinct.push(at);
        }
    }
    distinct
}
