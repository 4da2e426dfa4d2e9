//! Limits of what a component outside the program may ask of it.

use super::MessageError;
use crate::policy::{GenerateRequest, ScoreRequest};

/// Limits of the questions that a plugin asks during its calls, the same for every transport.
///
/// Answers of `n * max_new_tokens` tokens take KV-cache memory as they grow, so without a limit one plugin could exhaust
/// the memory of the run.
///
/// | limit | process | native library, in this process | WebAssembly |
/// |---|---|---|---|
/// | `per_call` | all questions | `generate` and `score` | `generate` and `score` |
/// | `in_flight`, `open` | of the component | of one batch | one question at a time |
/// | `open_bytes` | of the component | not held | memory of the instance |
/// | the others | held | held | held |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuestionLimits {
    /// Most questions of one call. Default 1,000.
    pub per_call: usize,
    /// Most questions of one component that are worked on at a time; others wait. Default 64.
    pub in_flight: usize,
    /// Most questions of one component that are open at a time, those that wait included; further ones are
    /// refused. Default 1,024.
    pub open: usize,
    /// Most bytes of the questions of one component that are open at a time. Default 64 MiB.
    pub open_bytes: usize,
    /// Most answers of one `generate`. Default 64.
    pub answers: usize,
    /// Longest answer of one `generate`, in tokens. Default 4,096.
    pub max_new_tokens: usize,
    /// Most tokens of all answers of one `generate`: `n * max_new_tokens`. Default 65,536.
    pub total_new_tokens: usize,
    /// Most continuations of one `score`. Default 1,024.
    pub continuations: usize,
}

impl QuestionLimits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        per_call: 1000,
        in_flight: 64,
        open: 1024,
        open_bytes: 64 << 20,
        answers: 64,
        max_new_tokens: 4096,
        total_new_tokens: 1 << 16,
        continuations: 1024,
    };

    /// Checks the sampling parameters and the size of a request.
    ///
    /// # Errors
    /// Names the parameter, its value and the limit.
    pub fn check_generate(&self, request: &GenerateRequest) -> Result<(), MessageError> {
        request.sampling.validate().map_err(MessageError::new)?;
        let (n, tokens) = (request.n, request.sampling.max_new_tokens);
        let total = n.saturating_mul(tokens);
        let refused = if n == 0 || n > self.answers {
            format!("n is {n}; it must be 1 to {}", self.answers)
        } else if tokens > self.max_new_tokens {
            format!("max_new_tokens is {tokens}; a plugin may ask for at most {}", self.max_new_tokens)
        } else if total > self.total_new_tokens {
            let most = self.total_new_tokens;
            format!("n * max_new_tokens is {total}; a plugin may ask for at most {most} tokens at once")
        } else {
            return Ok(());
        };
        Err(MessageError::new(refused))
    }

    /// Checks the size of a request.
    ///
    /// # Errors
    /// Names the number of continuations and the limit.
    pub fn check_score(&self, request: &ScoreRequest) -> Result<(), MessageError> {
        let count = request.continuations.len();
        if count <= self.continuations {
            return Ok(());
        }
        let most = self.continuations;
        Err(MessageError::new(format!(
            "{count} continuations; a plugin may ask for at most {most} at once"
        )))
    }

    /// Checks a call's number of questions, the next included.
    ///
    /// # Errors
    /// Names the limit.
    pub fn check_count(&self, asked: usize) -> Result<(), MessageError> {
        if asked <= self.per_call {
            return Ok(());
        }
        let text = format!("the call has asked {} questions, more than it may", self.per_call);
        Err(MessageError::new(text))
    }
}

impl Default for QuestionLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Continuation;
    use crate::prompt::Prompt;
    use crate::response::Sampling;

    #[test]
    fn a_request_beyond_a_limit_is_refused_with_the_limit() {
        let check = |n, max_new_tokens| {
            let (prompt, sampling) = (Prompt::text("?"), Sampling::greedy(max_new_tokens));
            QuestionLimits::DEFAULT.check_generate(&GenerateRequest { prompt, sampling, n, seed: 0 })
        };
        assert_eq!(check(1, 4096), Ok(()));
        assert_eq!(check(64, 1024), Ok(()));
        let says = |n, tokens| check(n, tokens).expect_err("beyond a limit").to_string();
        assert_eq!(says(0, 1), "n is 0; it must be 1 to 64");
        assert_eq!(says(65, 1), "n is 65; it must be 1 to 64");
        assert_eq!(says(1, 4097), "max_new_tokens is 4097; a plugin may ask for at most 4096");
        assert_eq!(
            says(64, 1025),
            "n * max_new_tokens is 65600; a plugin may ask for at most 65536 tokens at once"
        );
        let continuations = vec![Continuation::Answer(String::new()); 1025];
        let asked = ScoreRequest { prompt: Prompt::text("?"), continuations };
        let said = QuestionLimits::DEFAULT.check_score(&asked).expect_err("beyond a limit");
        assert_eq!(said.to_string(), "1025 continuations; a plugin may ask for at most 1024 at once");
    }
}
