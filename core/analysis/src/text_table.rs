//! Tables as text, for papers and guides.

/// Form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableForm {
    /// Markdown.
    Markdown,
    /// LaTeX, with `booktabs`.
    Latex,
}

/// A row of a Markdown table, with its line end. What would end a cell or the row is escaped.
pub fn markdown_row(cells: &[String]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Text without what LaTeX would obey; minus and comparison signs become mathematics.
pub fn latex_escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        '\\' => "\\textbackslash{}".to_owned(),
        '\u{2212}' => "$-$".to_owned(),
        '\u{2013}' => "--".to_owned(),
        '<' | '>' | '|' => format!("${c}$"),
        '\n' | '\r' => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}
