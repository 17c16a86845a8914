//! `s3://BUCKET/PREFIX?endpoint=…&region=…&style=…`: where a bucket is.
//!
//! 1. The text is split by hand: a URL parser would silently change `..`, spaces and upper case.
//! 2. Everything that is not understood is an error, so that a mistyped parameter never selects another place.
//! 3. What is not given comes from `AWS_ENDPOINT_URL` and `AWS_REGION`. Keys come from the environment only.

use std::fmt;
use std::net::IpAddr;

use rusty_s3::{Bucket, UrlStyle};
use url::{Host, Url, form_urlencoded};

use crate::base::env_vars::{AWS_ENDPOINT_URL, AWS_REGION};

/// Longest prefix in bytes. S3 keys have at most 1,024, and ours need 600.
const MAX_PREFIX: usize = 300;
/// The parameters, for messages.
const TAKES: &str = "`endpoint`, `region` and `style`";

/// A bucket, and a prefix in it. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Address {
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    pub prefix: String,
    endpoint: Option<Url>,
    region: Option<String>,
    style: Option<Style>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Path,
    Virtual,
}

impl S3Address {
    /// Parses what follows `s3://`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let bad = |text: &str| text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '#' || *c == '\\');
        if let Some(bad) = bad(place) {
            return Err(format!(
                "{bad:?} cannot be in a bucket or prefix. Use letters, digits and any of -_.=+,~ between single slashes"
            ));
        }
        if let Some(bad) = bad(query) {
            return Err(format!("{bad:?} cannot be in it. Percent-encode the value of `endpoint`"));
        }
        if place.contains('@') {
            return Err("it contains credentials. Remove them: keys are read from the variables AWS_ACCESS_KEY_ID, \
                        AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN only"
                .to_owned());
        }
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        check_bucket(bucket)?;
        let prefix = prefix.trim_end_matches('/');
        check_prefix(prefix)?;
        let mut address =
            Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint: None, region: None, style: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let twice = match &*name {
                "endpoint" => address.endpoint.replace(endpoint(&value)?).is_some(),
                "region" => address.region.replace(region(&value)?).is_some(),
                "style" => address.style.replace(style(&value)?).is_some(),
                _ if is_secret(&name) => {
                    return Err(format!(
                        "the parameter `{name}` is a secret or selects one. Remove it: keys are read from the variables \
                         AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN only"
                    ));
                }
                _ => return Err(format!("the parameter `{name}` is not known. It takes {TAKES}")),
            };
            if twice {
                return Err(format!("the parameter `{name}` is given twice. Keep one"));
            }
        }
        if address.style == Some(Style::Virtual) && !address.can_be_host() {
            return Err(format!(
                "`style=virtual` puts the bucket {bucket} in front of the name of the host, which does not work with dots in \
                 the bucket or an address of numbers. Use `style=path`"
            ));
        }
        Ok(address)
    }

    /// Fills in what is missing from the environment. Returns the bucket for requests.
    ///
    /// # Errors
    /// When the environment names an invalid endpoint or region, or no region.
    pub(super) fn bucket(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Bucket, String> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let endpoint = match (&self.endpoint, given(AWS_ENDPOINT_URL)) {
            (Some(endpoint), _) => Some(endpoint.clone()),
            (None, Some(text)) => {
                Some(endpoint(&text).map_err(|why| format!("the variable {AWS_ENDPOINT_URL}: {why}"))?)
            }
            (None, None) => None,
        };
        let region = match (&self.region, given(AWS_REGION)) {
            (Some(region), _) => region.clone(),
            (None, Some(text)) => region(&text).map_err(|why| format!("the variable {AWS_REGION}: {why}"))?,
            (None, None) if endpoint.is_some() => "us-east-1".to_owned(),
            (None, None) => {
                return Err(format!("its region is not known. Add `?region=…`, or set {AWS_REGION}"));
            }
        };
        let place = Self { endpoint, ..self.clone() };
        let style = match place.style {
            Some(Style::Virtual) if !place.can_be_host() => {
                return Err("`style=virtual` does not work with this endpoint. Use `style=path`".to_owned());
            }
            Some(style) => style,
            // Every compatible store knows paths; AWS asks for virtual hosts.
            None if place.endpoint.is_none() && place.can_be_host() => Style::Virtual,
            None => Style::Path,
        };
        let url = if let Some(endpoint) = place.endpoint {
            endpoint
        } else {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            Url::parse(&format!("https://s3.{region}.{domain}")).map_err(|error| error.to_string())?
        };
        let style = match style {
            Style::Path => UrlStyle::Path,
            Style::Virtual => UrlStyle::VirtualHost,
        };
        Bucket::new(url, style, self.bucket.clone(), region).map_err(|error| error.to_string())
    }

    /// Whether the bucket can be part of the name of a host.
    fn can_be_host(&self) -> bool {
        let is_name = self.endpoint.as_ref().is_none_or(|url| matches!(url.host(), Some(Host::Domain(_))));
        is_name && !self.bucket.contains('.')
    }
}

/// As it was typed, with parameters in a fixed order.
impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let mut sign = '?';
        if let Some(endpoint) = &self.endpoint {
            write!(f, "{sign}endpoint={}", endpoint.as_str().trim_end_matches('/'))?;
            sign = '&';
        }
        if let Some(region) = &self.region {
            write!(f, "{sign}region={region}")?;
            sign = '&';
        }
        match self.style {
            None => Ok(()),
            Some(Style::Path) => write!(f, "{sign}style=path"),
            Some(Style::Virtual) => write!(f, "{sign}style=virtual"),
        }
    }
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() {
        return Err("the bucket is missing. Write s3://BUCKET/PREFIX".to_owned());
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = (3..=63).contains(&bucket.len())
        && bucket.chars().all(inner)
        && bucket.starts_with(edge)
        && bucket.ends_with(edge)
        && !bucket.contains("..")
        && bucket.parse::<IpAddr>().is_err();
    if is_name {
        return Ok(());
    }
    Err(format!(
        "{bucket:?} is not the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at \
         both ends"
    ))
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.=+,~".contains(c);
    for part in prefix.split('/').filter(|_| !prefix.is_empty()) {
        if part.is_empty() || part == "." || part == ".." || !part.chars().all(allowed) {
            return Err(format!(
                "{part:?} cannot be a part of the prefix. Use letters, digits and any of -_.=+,~ between single slashes, and not \
                 `.` or `..`"
            ));
        }
    }
    if prefix.len() > MAX_PREFIX {
        return Err(format!("the prefix is longer than {MAX_PREFIX} bytes. Choose a shorter one"));
    }
    Ok(())
}

fn endpoint(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("the endpoint {why}. Write it like https://minio.example.com:9000");
    let url = Url::parse(text).map_err(|_| wrong("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint contains credentials. Remove them: keys are read from AWS_ACCESS_KEY_ID and \
                    AWS_SECRET_ACCESS_KEY only"
            .to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| is_near(&host)) => Ok(url),
        "http" => Err("the endpoint has the scheme http, which would show signed addresses and content to the whole network. Use \
                       https; http is accepted only for this machine and private networks"
            .to_owned()),
        _ => Err(wrong("has neither the scheme https nor http")),
    }
}

/// Whether a host is this machine or in a private network.
pub(crate) fn is_near(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Host::Ipv6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        // Names without a dot exist only in the own network (a container, for example).
        Host::Domain(name) => {
            !name.contains('.') || [".localhost", ".local", ".internal", ".lan"].iter().any(|end| name.ends_with(end))
        }
    }
}

fn region(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        return Err(format!("{text:?} is not a region. Write it like eu-central-1, or `auto` for R2"));
    }
    Ok(text.to_owned())
}

fn style(text: &str) -> Result<Style, String> {
    match text {
        "path" => Ok(Style::Path),
        "virtual" => Ok(Style::Virtual),
        _ => Err(format!(
            "`style` is {text:?}. It takes `path` (the bucket is in the path of the address) or `virtual` (the bucket is in front \
             of the host)"
        )),
    }
}

/// Whether a parameter would be, or would choose, a key. Nix knows `profile`.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "password", "profile", "credential", "signature"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
#[path = "address_test.rs"]
mod tests;
