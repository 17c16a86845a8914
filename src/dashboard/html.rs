//! HTML: text is escaped here, and nowhere else.

use std::fmt;

/// HTML that is complete: every element is closed, every text is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// `value` as text or as the value of an attribute, on one line.
    pub(super) fn text(value: &str) -> Self {
        let mut out = String::with_capacity(value.len());
        for c in value.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c if c.is_control() || is_invisible(c) => out.push(' '),
                c => out.push(c),
            }
        }
        Self(out)
    }

    /// HTML that was formatted from literals, numbers and other HTML. Texts become HTML by [`Html::text`] first.
    pub(super) fn of(markup: fmt::Arguments<'_>) -> Self {
        Self(fmt::format(markup))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<T: IntoIterator<Item = Html>>(parts: T) -> Self {
        Self(parts.into_iter().map(|part| part.0).collect())
    }
}

/// A table with a caption, inside a region that scrolls and can be reached by keyboard. Columns from `numbers` on are aligned to
/// the right.
pub(super) fn table(caption: &str, head: &[&str], numbers: usize, rows: &[Vec<Html>]) -> Html {
    let class = |column: usize| if column >= numbers { " class=n" } else { "" };
    let heads: Html = head
        .iter()
        .enumerate()
        .map(|(column, name)| Html::of(format_args!("<th scope=col{}>{}</th>", class(column), Html::text(name))))
        .collect();
    let row = |cells: &Vec<Html>| -> Html {
        let cells: Html = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let (open, close) = if column == 0 { ("th scope=row", "th") } else { ("td", "td") };
                Html::of(format_args!("<{open}{}>{cell}</{close}>", class(column)))
            })
            .collect();
        Html::of(format_args!("<tr>{cells}</tr>\n"))
    };
    let (label, body): (Html, Html) = (Html::text(caption), rows.iter().map(row).collect());
    Html::of(format_args!(
        "<div class=scroll role=region aria-label=\"{label}\" tabindex=0><table><caption>{label}</caption>\
         <thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    ))
}

/// Characters without a shape that reverse or join the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_neither_an_element_nor_the_end_of_an_attribute(value in any::<String>()) {
            let shown = Html::text(&value).to_string();
            let forbidden = ['<', '>', '"', '\'', '\n', '\r', '\0', '\u{202E}'];
            prop_assert!(!shown.contains(forbidden));
            for reference in shown.split('&').skip(1) {
                let name = reference.split_once(';').map(|(name, _)| name);
                prop_assert!(["amp", "lt", "gt", "quot", "#39"].map(Some).contains(&name));
            }
        }
    }
}
