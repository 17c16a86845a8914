//! HTTP statuses in what programs print: `returned error: 404`, `503 Service Unavailable`, `E404`, `Not Found 404`.

/// What stands before a status.
const BEFORE: [&str; 9] = [
    "returned error:",
    "http error",
    "error",
    "returned a",
    "got",
    "http/1.1",
    "http/2",
    "status code",
    "status code:",
];
/// The names of statuses that servers refuse with. Source: RFC 9110, section 15.
const NAMES: [(u16, &str); 11] = [
    (400, "bad request"),
    (401, "unauthorized"),
    (403, "forbidden"),
    (404, "not found"),
    (408, "request timeout"),
    (410, "gone"),
    (429, "too many requests"),
    (500, "internal server error"),
    (502, "bad gateway"),
    (503, "service unavailable"),
    (504, "gateway timeout"),
];

/// A folded line, with `http-status-404` behind it where a server refused with that.
#[must_use]
pub(super) fn marked(line: &str) -> String {
    match refusal(line) {
        Some(status) => format!("{line} http-status-{status}"),
        None => line.to_owned(),
    }
}

fn refusal(line: &str) -> Option<u16> {
    let words = line.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at);
    // Only where a number begins.
    let starts = words
        .filter(|at| !line[..*at].ends_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '/' | '-' | '_')));
    starts.into_iter().find_map(|at| {
        let (before, rest) = line.split_at(at);
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let status: u16 = number.parse().ok().filter(|status| (400..600).contains(status))?;
        let name = NAMES.iter().find(|(known, _)| *known == status).map_or("", |(_, name)| name);
        let (before, after) = (before.trim_end(), after.trim_start_matches(':').trim_start());
        let is_named = !name.is_empty() && (after.starts_with(name) || before.ends_with(name));
        // npm's own codes: `npm error code E404`.
        let is_code = before.ends_with("code e");
        (is_named || is_code || BEFORE.iter().any(|words| before.ends_with(words))).then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_only_where_somebody_says_so() {
        for (line, expected) in [
            ("curl: (22) the requested url returned error: 404", Some(404)),
            ("2026-11-26 08:16:49 error 503: service unavailable.", Some(503)),
            ("npm error code e404", Some(404)),
            ("bad response not found 404 (http://127.0.0.1:8901/)", Some(404)),
            ("wget: server returned error: http/1.1 429 too many requests", Some(429)),
            ("reading http://127.0.0.1:8901/status/404/x: 410 gone", Some(410)),
            ("http://127.0.0.1:404/not found", None),
            ("downloaded 404 crates", None),
            ("src/a.c:404:5: error: x", None),
            ("error 2", None),
            ("", None),
        ] {
            assert_eq!(refusal(line), expected, "{line}");
        }
        assert!(marked("http error 408").ends_with(" http-status-408"));
    }
}
