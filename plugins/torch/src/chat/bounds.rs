//! Bounds of templates, which come with checkpoints that nobody has to trust.
//!
//! A template is bounded before it is parsed (length, nesting) and while it renders (instructions, bytes of the values
//! that it makes, time). The engine counts instructions, but an instruction may double a text. So the source is
//! rewritten before it is compiled: every operand, argument and element `x` becomes `(x)|weigh`, a filter that returns
//! its value and draws the value's size from the render's budget ([`super::meter`]).

use minijinja::machinery::{Span, Token, WhitespaceConfig, tokenize};

/// Maximum length of a template in bytes; the longest on the hub have some 20,000.
pub(super) const MAX_TEMPLATE_BYTES: usize = 256 << 10;

/// Maximum nesting of brackets, and maximum run of prefix operators.
const MAX_NESTING: usize = 64;

/// Maximum number of tokens in one tag.
const MAX_TAG_TOKENS: usize = 8192;

/// Name of the filter that weighs a value.
pub(super) const WEIGH: &str = "isr_weigh";

/// Whitespace control of chat templates in transformers.
pub(super) const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// Template that is ready to be compiled.
pub(super) struct Prepared {
    /// Rewritten source, with the same lines.
    pub(super) text: String,
    /// Whether it names `strftime_now`.
    pub(super) asks_for_date: bool,
    /// Length of the longest text between two tags in bytes.
    pub(super) longest_literal: usize,
}

/// Checks and rewrites a template.
///
/// # Errors
/// Text that is not tokens of Jinja, or a template beyond the bounds.
pub(super) fn prepare(source: &str) -> Result<Prepared, String> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_TEMPLATE_BYTES}", source.len()));
    }
    let mut editor = Editor::default();
    let (mut asks_for_date, mut longest_literal) = (false, 0);
    let mut tag: Vec<(Token<'_>, Span)> = Vec::new();
    let mut is_block = false;
    for token in tokenize(source, false, Default::default(), WHITESPACE) {
        let (token, span) = token.map_err(|error| error.to_string())?;
        match token {
            Token::TemplateData(text) => longest_literal = longest_literal.max(text.len()),
            Token::VariableStart | Token::BlockStart => {
                is_block = matches!(token, Token::BlockStart);
                tag.clear();
            }
            Token::VariableEnd | Token::BlockEnd => {
                check(&tag).map_err(|why| format!("{why} (line {})", span.start_line))?;
                editor.tag(&tag, is_block);
            }
            token => {
                asks_for_date |= matches!(token, Token::Ident("strftime_now"));
                tag.push((token, span));
            }
        }
    }
    Ok(Prepared { text: editor.apply(source), asks_for_date, longest_literal })
}

/// Checks length and nesting of a tag.
fn check(tag: &[(Token<'_>, Span)]) -> Result<(), String> {
    if tag.len() > MAX_TAG_TOKENS {
        return Err(format!("a tag has more than {MAX_TAG_TOKENS} words and signs"));
    }
    let (mut depth, mut prefixes) = (0_usize, 0_usize);
    for (token, _) in tag {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth = depth.saturating_sub(1),
            _ => {}
        }
        prefixes = match token {
            Token::Ident("not") | Token::Minus | Token::Plus => prefixes + 1,
            _ => 0,
        };
        if depth > MAX_NESTING || prefixes > MAX_NESTING {
            return Err(format!(
                "it is too deep: more than {MAX_NESTING} brackets or signs within each other"
            ));
        }
    }
    Ok(())
}

/// Insertions and replacements by their place in the source.
#[derive(Default)]
struct Editor {
    /// Byte range and new text.
    edits: Vec<(std::ops::Range<usize>, &'static str)>,
    /// Ends of weighed operands.
    ends: Vec<usize>,
    /// Starts of weighed operands.
    starts: Vec<usize>,
}

impl Editor {
    fn tag(&mut self, tag: &[(Token<'_>, Span)], is_block: bool) {
        if !is_block {
            return self.expression(tag, false);
        }
        let Some(((Token::Ident(name), span), rest)) = tag.split_first() else { return };
        let range = span.start_offset as usize..span.end_offset as usize;
        let behind = |wanted: fn(&Token<'_>) -> bool| {
            let mut depth = 0;
            let at = rest.iter().position(|(token, _)| {
                depth += nesting(token);
                depth == 0 && wanted(token)
            });
            at.map_or(&[][..], |at| &rest[at + 1..])
        };
        match *name {
            // transformers' own tag marks the tokens that an assistant wrote, and renders its content in a scope.
            "generation" => self.edits.push((range, "with")),
            "endgeneration" => self.edits.push((range, "endwith")),
            "if" | "elif" | "with" => self.expression(rest, true),
            "for" => self.expression(behind(|token| matches!(token, Token::Ident("in"))), true),
            "set" => match behind(|token| matches!(token, Token::Assign)) {
                [] => self.expression(rest, false),
                value => self.expression(value, true),
            },
            // The names of a caller's parameters stand in brackets of their own.
            "call" if matches!(rest.first(), Some((Token::ParenOpen, _))) => {
                self.expression(behind(|token| matches!(token, Token::ParenClose)), false);
            }
            "call" | "do" | "filter" => self.expression(rest, false),
            _ => {}
        }
    }

    /// Weighs the operands of an expression; one that stands alone only if `outer`.
    fn expression(&mut self, tokens: &[(Token<'_>, Span)], outer: bool) {
        let operands = operands(tokens);
        let compound = operands.len() > 1 || has_factors(tokens);
        for range in operands {
            let named = matches!(tokens.get(range.end), Some((Token::Assign, _)));
            self.operand(&tokens[range], (outer || compound) && !named);
        }
    }

    /// Weighs an operand of an additive operator, comparison or condition, and what its brackets hold.
    fn operand(&mut self, tokens: &[(Token<'_>, Span)], weighed: bool) {
        // Arguments that are spread: `f(*list)`.
        if let [(sign, _), rest @ ..] = tokens
            && is_factor_sign(sign)
        {
            return self.operand(rest, weighed);
        }
        let (mut depth, mut open, mut factor) = (0, 0, 0);
        let compound = has_factors(tokens);
        for (at, (token, _)) in tokens.iter().enumerate() {
            let change = nesting(token);
            if change > 0 && depth == 0 {
                open = at + 1;
            }
            depth += change;
            if change < 0 && depth == 0 {
                self.expression(&tokens[open..at], true);
            }
            if depth == 0 && is_factor_sign(token) {
                self.wrap(&tokens[factor..at]);
                // What has been multiplied so far; powers are of numbers.
                if has_factors(&tokens[..at]) && !matches!(token, Token::Pow) {
                    self.wrap(&tokens[..at]);
                }
                factor = at + 1;
            }
        }
        if compound {
            self.wrap(&tokens[factor..]);
        }
        if weighed {
            self.wrap(tokens);
        }
    }

    /// Weighs what the tokens stand for, unless it is a constant.
    fn wrap(&mut self, tokens: &[(Token<'_>, Span)]) {
        let (Some((first, from)), Some((_, to))) = (tokens.first(), tokens.last()) else { return };
        if tokens.len() > 1 || matches!(first, Token::Ident(_)) {
            self.starts.push(from.start_offset as usize);
            self.ends.push(to.end_offset as usize);
        }
    }

    fn apply(self, source: &str) -> String {
        let closing = format!(")|{WEIGH}");
        // Where an operand ends and another begins there is an operator between them, so that no order is lost.
        let mut edits: Vec<(usize, usize, &str)> =
            self.edits.into_iter().map(|(range, text)| (range.start, range.end, text)).collect();
        edits.extend(self.starts.into_iter().map(|at| (at, at, "(")));
        edits.extend(self.ends.into_iter().map(|at| (at, at, closing.as_str())));
        edits.sort_by_key(|(start, ..)| *start);
        let (mut text, mut copied) = (String::with_capacity(source.len() * 2), 0);
        for (start, end, new) in edits {
            text.push_str(&source[copied..start]);
            text.push_str(new);
            copied = end;
        }
        text + &source[copied..]
    }
}

/// Returns the change of nesting at a token.
fn nesting(token: &Token<'_>) -> i32 {
    match token {
        Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => 1,
        Token::ParenClose | Token::BracketClose | Token::BraceClose => -1,
        _ => 0,
    }
}

/// Splits an expression at its additive operators, comparisons, conditions and commas.
fn operands(tokens: &[(Token<'_>, Span)]) -> Vec<std::ops::Range<usize>> {
    let (mut ranges, mut start, mut depth, mut in_test) = (Vec::new(), 0, 0, false);
    for (at, (token, _)) in tokens.iter().enumerate() {
        depth += nesting(token);
        let before = at.checked_sub(1).map(|before| &tokens[before].0);
        // `x is not in y` is one operand, and `x.in` has no operator.
        let is_name = in_test || matches!(before, Some(Token::Dot | Token::Pipe));
        in_test = match token {
            Token::Ident("is") => true,
            Token::Ident("not") => in_test,
            _ => false,
        };
        let is_sign = matches!(token, Token::Plus | Token::Minus);
        let is_unary = at == start || before.is_some_and(is_factor_sign);
        if depth == 0 && nesting(token) == 0 && !is_name && (is_delimiter(token) || is_sign && !is_unary) {
            ranges.push(start..at);
            start = at + 1;
        }
    }
    ranges.push(start..tokens.len());
    ranges
}

/// Returns whether an operand has operators that bind more tightly than `~`.
fn has_factors(tokens: &[(Token<'_>, Span)]) -> bool {
    let mut depth = 0;
    tokens.iter().enumerate().any(|(at, (token, _))| {
        depth += nesting(token);
        at > 0 && depth == 0 && is_factor_sign(token)
    })
}

/// Returns whether a token separates operands; signs do where they are not prefixes.
fn is_delimiter(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "and" | "or" | "not" | "if" | "else" | "in" | "recursive"),
        Token::Tilde | Token::Eq | Token::Ne | Token::Gt | Token::Gte | Token::Lt | Token::Lte => true,
        Token::Comma | Token::Colon | Token::Assign => true,
        _ => false,
    }
}

/// Returns whether a token is an operator that binds more tightly than `~`.
fn is_factor_sign(token: &Token<'_>) -> bool {
    matches!(token, Token::Mul | Token::Div | Token::FloorDiv | Token::Mod | Token::Pow)
}
