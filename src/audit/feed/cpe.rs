//! CPE 2.3 names: `cpe:2.3:a:haxx:curl:8.1.0:*:*:*:*:*:*:*`. Source: NIST IR 7695, "formatted string binding".

/// The parts of a name that are used, without escapes and in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpe {
    /// `a` for an application, `o` for an operating system, `h` for hardware.
    pub part: String,
    pub vendor: String,
    pub product: String,
    /// `*` for any.
    pub version: String,
    pub update: String,
    /// The software that it runs in, such as `jenkins`; `*` for any.
    pub target_software: String,
}

/// Reads a name; none where it is not one.
pub(crate) fn parse(text: &str) -> Option<Cpe> {
    let rest = text.strip_prefix("cpe:2.3:")?;
    let mut fields = vec![String::new()];
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        match (c, fields.last_mut()) {
            ('\\', Some(last)) => last.extend(characters.next()),
            (':', _) => fields.push(String::new()),
            (c, Some(last)) => last.extend(c.to_lowercase()),
            (_, None) => {}
        }
        if fields.len() > 11 {
            return None;
        }
    }
    let field = |number: usize| fields.get(number).cloned().unwrap_or_else(|| "*".to_owned());
    if fields.len() < 4 || fields[1].is_empty() || fields[2].is_empty() {
        return None;
    }
    Some(Cpe {
        part: field(0),
        vendor: field(1),
        product: field(2),
        version: field(3),
        update: field(4),
        target_software: field(8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_their_escapes() {
        let cpe = parse(r"cpe:2.3:a:GNU:c\+\+\:x:1.2\.3:rc1:*:*:*:Jenkins:*:*").unwrap();
        assert_eq!((cpe.vendor.as_str(), cpe.product.as_str(), cpe.version.as_str()), ("gnu", "c++:x", "1.2.3"));
        assert_eq!((cpe.part.as_str(), cpe.update.as_str(), cpe.target_software.as_str()), ("a", "rc1", "jenkins"));
        assert_eq!(parse("cpe:2.3:a:haxx:curl:*").unwrap().target_software, "*");
        for wrong in
            ["", "cpe:/a:haxx:curl", "cpe:2.3:a:haxx", "cpe:2.3:a::x:1", &format!("cpe:2.3:{}", ":".repeat(99))]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
