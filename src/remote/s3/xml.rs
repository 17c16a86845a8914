//! Reads the few elements of S3's answers that matter. The answers are flat: no element that is read contains another of its name.

/// Returns the content of each element `name`, in order. An element that is not closed ends the search.
pub(super) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(&format!("<{name}"))?;
            let after = &rest[start + 1 + name.len()..];
            let open = after.find('>')?;
            let (attributes, content) = (&after[..open], &after[open + 1..]);
            rest = content;
            // `<KeyCount>` is not `<Key>`, and `<Key/>` is empty.
            if !attributes.is_empty() && !attributes.starts_with(|c: char| c.is_ascii_whitespace() || c == '/') {
                continue;
            }
            if attributes.ends_with('/') {
                return Some("");
            }
            let close = format!("</{name}>");
            let end = content.find(&close)?;
            rest = &content[end + close.len()..];
            return Some(&content[..end]);
        }
    })
}

/// Returns the text of the first element `name`.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next().map(|content| unescaped(content.trim()))
}

/// Resolves the entities of XML. Others stay as they are.
fn unescaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        clean.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some((entity, after)) = rest[1..].split_once(';').filter(|(entity, _)| entity.len() <= 8) else {
            clean.push('&');
            rest = &rest[1..];
            continue;
        };
        match resolved(entity) {
            Some(c) => clean.push(c),
            None => clean.push_str(&rest[..entity.len() + 2]),
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

fn resolved(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// Escapes a text for an element.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_told_apart_by_their_whole_name() {
        let xml = "<?xml version=\"1.0\"?><L xmlns=\"x\"><KeyCount>2</KeyCount><Key>a&amp;b&#x2F;&#47;&lt;</Key>\
                   <Key/><Key x=\"1\">c &unknown; &</Key><Prefix /><Open>";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["a&amp;b&#x2F;&#47;&lt;", "", "c &unknown; &"]);
        assert_eq!(text(xml, "Key").unwrap(), "a&b//<");
        assert_eq!(text("<K>c &unknown; &</K>", "K").unwrap(), "c &unknown; &");
        assert_eq!((text(xml, "Prefix").unwrap(), text(xml, "Open"), text(xml, "None")), (String::new(), None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read(xml in ".*|(</?(Key|Ke|&|;|#|>|/){0,3}>?){0,9}", name in "Key|Ke") {
            let _ = (elements(&xml, &name).count(), text(&xml, &name));
        }

        #[test]
        fn an_escaped_text_is_read_back(value in "[a-z<>&\"';# ]{0,20}") {
            prop_assert_eq!(text(&format!("<K>{}</K>", escaped(&value)), "K").unwrap(), value.trim());
        }
    }
}
