//! NVD JSON 2.0, one advisory at a time: files have hundreds of megabytes, and memory stays that of the largest advisory.
//!
//! Source: <https://csrc.nist.gov/schema/nvd/api/2.0/cve_api_json_2.0.schema>.

use std::io::{self, BufReader, Read};

use cvss::Cvss;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Affected, Entry, Range, cpe};
use crate::audit::finding::cut;
use crate::base::bounds::{Costs, Weighing};

/// Most bytes of one file, unpacked.
const MOST: u64 = 4 << 30;
/// Most characters of a description that are kept.
const LONGEST: usize = 200;
/// Systems that packages of Nix are not built for, as the NVD's names of versions for them begin.
const OTHER_SYSTEMS: [&str; 8] = ["windows", "mac", "iphone", "ipad", "ios", "android", "chrome_os", "freebsd"];

/// Hands every advisory in `reader` to `each`. Returns the time that the file says it was written at, as it says it.
///
/// # Errors
/// When it cannot be read, or is not such a file. What came before has been handed over.
pub(crate) fn read(reader: impl Read, mut each: impl FnMut(Entry)) -> io::Result<String> {
    // One advisory has its limit; all of them together have none but the length of the file.
    let reader = Weighing::new(BufReader::new(reader.take(MOST)), Costs::LISTS, u64::MAX - 1);
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(reader));
    let mut file = File { each: &mut each, timestamp: String::new(), is_feed: false };
    json.deserialize_map(&mut file)?;
    json.end()?;
    let File { timestamp, is_feed, .. } = file;
    if is_feed {
        Ok(timestamp)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it has no list `vulnerabilities`"))
    }
}

struct File<'a, F> {
    each: &'a mut F,
    timestamp: String,
    is_feed: bool,
}

impl<'de, F: FnMut(Entry)> Visitor<'de> for &mut File<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with a list `vulnerabilities`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "vulnerabilities" => {
                    self.is_feed = true;
                    map.next_value_seed(List(&mut *self.each))?;
                }
                "timestamp" => self.timestamp = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct List<'a, F>(&'a mut F);

impl<'de, F: FnMut(Entry)> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Entry)> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of advisories")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(Item { cve }) = list.next_element()? {
            (self.0)(entry(cve));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Item {
    cve: Cve,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cve {
    id: String,
    #[serde(default)]
    vuln_status: String,
    #[serde(default)]
    descriptions: Vec<Description>,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    configurations: Vec<Configuration>,
}

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    lang: String,
    #[serde(default)]
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metrics {
    #[serde(rename = "cvssMetricV40")]
    v40: Vec<Metric>,
    #[serde(rename = "cvssMetricV31")]
    v31: Vec<Metric>,
    #[serde(rename = "cvssMetricV30")]
    v30: Vec<Metric>,
    #[serde(rename = "cvssMetricV2")]
    v2: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    cvss_data: Data,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Data {
    vector_string: String,
    base_score: Option<f64>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    operator: Option<String>,
    #[serde(default)]
    negate: Option<bool>,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    operator: Option<String>,
    #[serde(default)]
    negate: Option<bool>,
    #[serde(default)]
    cpe_match: Vec<Match>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    #[serde(default)]
    vulnerable: bool,
    #[serde(default)]
    criteria: String,
    version_start_including: Option<String>,
    version_start_excluding: Option<String>,
    version_end_including: Option<String>,
    version_end_excluding: Option<String>,
}

/// What is needed of an advisory. One that affects no software, or was withdrawn, has its identifier alone.
fn entry(cve: Cve) -> Entry {
    let is_withdrawn = cve.vuln_status.eq_ignore_ascii_case("rejected");
    let score = score(&cve.metrics);
    let configurations = cve.configurations.into_iter().filter(|_| !is_withdrawn);
    let affected: Vec<Affected> = configurations.flat_map(affected).collect();
    if affected.is_empty() {
        return Entry { id: cut(&cve.id), score: None, text: String::new(), affected };
    }
    let text =
        cve.descriptions.iter().find(|text| text.lang == "en").map(|text| text.value.as_str()).unwrap_or_default();
    Entry { id: cut(&cve.id), score, text: cut(text).chars().take(LONGEST).collect(), affected }
}

/// The newest base score there is, the primary one where there are several. It is computed from the vector; what the feed says counts
/// where that cannot be.
fn score(metrics: &Metrics) -> Option<f64> {
    let best = |all: &[Metric]| {
        let metric = all.iter().find(|metric| metric.kind == "Primary").or(all.first())?;
        let computed = metric.cvss_data.vector_string.parse::<Cvss>().ok().map(|vector| vector.score());
        computed.or(metric.cvss_data.base_score).filter(|score| (0.0..=10.0).contains(score))
    };
    [&metrics.v40, &metrics.v31, &metrics.v30, &metrics.v2].into_iter().find_map(|all| best(all))
}

fn affected(configuration: Configuration) -> Vec<Affected> {
    let is_and = |operator: &Option<String>| operator.as_deref() == Some("AND");
    if configuration.negate == Some(true) {
        return Vec::new();
    }
    let all_of_several = is_and(&configuration.operator) && configuration.nodes.len() > 1;
    let mut found = Vec::new();
    for node in configuration.nodes {
        if node.negate == Some(true) {
            continue;
        }
        let only_with = all_of_several || (is_and(&node.operator) && node.cpe_match.len() > 1);
        found.extend(node.cpe_match.into_iter().filter(|it| it.vulnerable).filter_map(|it| one(it, only_with)));
    }
    found
}

/// A product; none for hardware, and for the version of a product that runs on other systems than those of Nix.
fn one(of: Match, only_with: bool) -> Option<Affected> {
    let name = cpe::parse(&of.criteria)?;
    // `-` is a product without versions.
    if !matches!(name.part.as_str(), "a" | "o") || name.version == "-" {
        return None;
    }
    let inside = match name.target_software.as_str() {
        "*" | "-" | "linux" | "linux_kernel" | "unix" => String::new(),
        system if OTHER_SYSTEMS.iter().any(|other| system.starts_with(other)) => return None,
        _ => name.target_software,
    };
    let exact = (name.version != "*").then(|| match name.update.as_str() {
        "*" | "-" => name.version.clone(),
        update => format!("{}-{update}", name.version),
    });
    let range = Range {
        exact,
        from_including: of.version_start_including,
        from_excluding: of.version_start_excluding,
        to_including: of.version_end_including,
        to_excluding: of.version_end_excluding,
    };
    Some(Affected { vendor: name.vendor, product: name.product, inside, range, only_with })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(json: &str) -> io::Result<(Vec<Entry>, String)> {
        let mut entries = Vec::new();
        let timestamp = read(json.as_bytes(), |entry| entries.push(entry))?;
        assert!(entries.iter().all(|entry| !entry.id.is_empty()));
        entries.retain(|entry| !entry.affected.is_empty());
        Ok((entries, timestamp))
    }

    fn cve(inner: &str) -> String {
        format!(
            r#"{{"format": "NVD_CVE", "vulnerabilities": [{{"cve": {{"id": "CVE-2026-1", {inner}}}}}], "timestamp": "2026-11-25T03:00:00.000"}}"#
        )
    }

    fn matching(inner: &str) -> String {
        cve(&format!(r#""configurations": [{{"nodes": [{{"operator": "OR", "cpeMatch": [{inner}]}}]}}]"#))
    }

    #[test]
    fn hardware_other_systems_and_withdrawn_advisories_are_left_out() {
        let (entries, timestamp) = all(&matching(
            r#"{"vulnerable": true, "criteria": "cpe:2.3:a:haxx:curl:*:*:*:*:*:*:*:*", "versionEndExcluding": "8.1"}"#,
        ))
        .unwrap();
        assert_eq!(timestamp, "2026-11-25T03:00:00.000");
        assert_eq!(entries[0].affected[0].range.to_excluding.as_deref(), Some("8.1"));
        for criteria in [
            "cpe:2.3:h:x:curl:*:*:*:*:*:*:*:*",
            "cpe:2.3:a:x:curl:*:*:*:*:*:windows:*:*",
            "cpe:2.3:a:x:curl:-:*:*:*:*:*:*:*",
            "nonsense",
        ] {
            let json = matching(&format!(r#"{{"vulnerable": true, "criteria": "{criteria}"}}"#));
            assert_eq!(all(&json).unwrap().0, [], "{criteria}");
        }
        let not = matching(r#"{"vulnerable": false, "criteria": "cpe:2.3:a:haxx:curl:1:*:*:*:*:*:*:*"}"#);
        assert_eq!(all(&not).unwrap().0, []);
        let rejected = matching(r#"{"vulnerable": true, "criteria": "cpe:2.3:a:haxx:curl:1:*:*:*:*:*:*:*"}"#)
            .replace(r#""id""#, r#""vulnStatus": "Rejected", "id""#);
        assert_eq!(all(&rejected).unwrap().0, []);
        let plugin = matching(r#"{"vulnerable": true, "criteria": "cpe:2.3:a:jenkins:git:*:*:*:*:*:jenkins:*:*"}"#);
        assert_eq!(all(&plugin).unwrap().0[0].affected[0].inside, "jenkins");
    }

    #[test]
    fn what_is_affected_only_with_something_else_is_marked() {
        let json = cve(r#""configurations": [{"operator": "AND", "nodes": [
            {"operator": "OR", "cpeMatch": [{"vulnerable": true, "criteria": "cpe:2.3:a:haxx:curl:8.1:rc1:*:*:*:*:*:*"}]},
            {"operator": "OR", "cpeMatch": [{"vulnerable": false, "criteria": "cpe:2.3:o:microsoft:windows:*:*:*:*:*:*:*:*"}]}]}]"#);
        let affected = &all(&json).unwrap().0[0].affected;
        assert_eq!((affected.len(), affected[0].only_with), (1, true));
        assert_eq!(affected[0].range.exact.as_deref(), Some("8.1-rc1"));
    }

    #[test]
    fn scores_are_computed_from_vectors() {
        let with = |metrics: &str| {
            let json = matching(r#"{"vulnerable": true, "criteria": "cpe:2.3:a:haxx:curl:1:*:*:*:*:*:*:*"}"#);
            all(&json.replace(r#""id""#, &format!(r#""metrics": {{{metrics}}}, "id""#))).unwrap().0[0].score
        };
        let v31 = r#""cvssMetricV31": [{"type": "Secondary", "cvssData": {"vectorString": "x", "baseScore": 1.0}},
            {"type": "Primary", "cvssData": {"vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "baseScore": 1.0}}]"#;
        assert_eq!(with(v31), Some(9.8));
        let v40 = r#""cvssMetricV40": [{"type": "Secondary", "cvssData": {"vectorString": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}}]"#;
        assert_eq!(with(v40), Some(9.3));
        assert_eq!(with(r#""cvssMetricV2": [{"cvssData": {"vectorString": "AV:N", "baseScore": 5.0}}]"#), Some(5.0));
        assert_eq!(with(r#""cvssMetricV2": [{"cvssData": {"baseScore": 50.0}}]"#), None);
        assert_eq!(with(""), None);
    }

    #[test]
    fn hostile_files_are_errors_in_bounded_memory() {
        assert!(all("").is_err() && all("[]").is_err() && all("{}").is_err());
        assert!(all(r#"{"vulnerabilities": [3]}"#).is_err());
        assert!(all(&format!(r#"{{"x": {}}}"#, "[".repeat(500_000))).is_err());
        assert!(read(&b"{\"vulnerabilities\": [{\"cve\": {\"id\": \"\xff\"}}]}"[..], |_| {}).is_err());
        // One advisory without an end: refused long before it fits into memory.
        let start = br#"{"vulnerabilities": [{"cve": {"id": "x", "descriptions": ["#;
        let more = io::repeat(0).take(1 << 30).map_to(br#"{"lang":"en","value":""},"#);
        let error = read(start.chain(more), |_| {}).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    /// A reader that repeats a text.
    trait Repeat {
        fn map_to(self, text: &'static [u8]) -> Repeated;
    }

    impl<R: Read> Repeat for R {
        fn map_to(self, text: &'static [u8]) -> Repeated {
            Repeated { text, at: 0 }
        }
    }

    struct Repeated {
        text: &'static [u8],
        at: usize,
    }

    impl Read for Repeated {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.text[self.at];
                self.at = (self.at + 1) % self.text.len();
            }
            Ok(buffer.len())
        }
    }
}
