//! The HTTP client for all requests.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Response};

/// The user agent of every request.
const USER_AGENT: &str = concat!("nix-cache-action/", env!("CARGO_PKG_VERSION"));

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of idle connections to keep: enough for all blocks and ranges that are transferred at once.
const IDLE_CONNECTIONS: usize = 16;
const MAX_REDIRECTS: usize = 5;

/// HTTPS cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
#[error("Cannot set up HTTPS on this machine: {0}. Check its CA certificates (SSL_CERT_FILE).")]
pub struct HttpError(String);

/// Creates a client for any server: rustls with ring, hickory as resolver (a static binary cannot use that of the C library),
/// HTTP/1.1 so that parallel transfers get separate connections, and no time limit for a whole request. It trusts the
/// certificates in `ca_file` if there are any, otherwise those of the system, otherwise Mozilla's as of the build.
///
/// # Errors
/// When no client can be built.
pub fn client(ca_file: Option<&Path>) -> Result<Client, HttpError> {
    build(ca_file, &base)
}

/// Like [`client`], for calls with a token: it follows no redirect, so that the token is not sent anywhere else.
///
/// # Errors
/// When no client can be built.
pub fn caller(ca_file: Option<&Path>) -> Result<Client, HttpError> {
    build(ca_file, &|| base().redirect(Policy::none()))
}

fn build(ca_file: Option<&Path>, base: &dyn Fn() -> ClientBuilder) -> Result<Client, HttpError> {
    // An error means that a provider is already installed, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(certificates) = ca_file.and_then(certificates_of) {
        return base().tls_certs_only(certificates).build().map_err(|error| unavailable(&error));
    }
    base().build().or_else(|error| {
        tracing::debug!("using the built-in CA certificates, the system has none: {}", chain(&error));
        base().tls_backend_preconfigured(with_built_in_roots()).build().map_err(|error| unavailable(&error))
    })
}

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than any valid answer. The rest was not read.
    #[error("its answer is larger than {} KiB", .0 >> 10)]
    TooLarge(usize),
    /// The connection failed.
    #[error(transparent)]
    Broken(#[from] reqwest::Error),
}

/// Reads the body of an answer of at most `most` bytes, as it was sent: nothing is decompressed.
///
/// # Errors
/// When it is longer, whatever length it declares, or the connection fails.
pub(crate) async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(BodyError::TooLarge(most));
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > most {
            return Err(BodyError::TooLarge(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn base() -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .hickory_dns(true)
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        // A signed address must not be sent to the target of a redirect in a header.
        .referer(false)
        .redirect(Policy::custom(|attempt| if may_follow(&attempt) { attempt.follow() } else { attempt.stop() }))
}

fn may_follow(attempt: &Attempt<'_>) -> bool {
    let same_scheme = attempt.previous().iter().all(|url| url.scheme() == attempt.url().scheme());
    same_scheme && attempt.previous().len() <= MAX_REDIRECTS
}

fn certificates_of(file: &Path) -> Option<Vec<Certificate>> {
    let pem = crate::base::bounds::read_file(file, crate::base::bounds::MAX_TEXT)
        .inspect_err(|error| tracing::warn!("Cannot read the CA certificates in {}: {error}", file.display()))
        .ok()?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        tracing::warn!("{} contains no CA certificates; using those of the system.", file.display());
        return None;
    }
    Some(certificates)
}

/// Trusts the certificates of Mozilla.
fn with_built_in_roots() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

fn unavailable(error: &reqwest::Error) -> HttpError {
    HttpError(chain(error))
}

/// Formats an error and all its causes as one line. These errors occur before any request, so they contain no address.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::response::Redirect;
    use axum::routing::get;

    use super::*;

    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    #[test]
    fn a_client_can_be_built_from_each_source_of_certificates() {
        client(None).unwrap();
        client(Some(Path::new("/does/not/exist.pem"))).unwrap();
        client(None).unwrap();
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
        base().tls_backend_preconfigured(with_built_in_roots()).build().unwrap();
    }

    #[test]
    fn a_file_without_certificates_is_passed_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate").unwrap();
        assert!(certificates_of(file.path()).is_none());
    }

    #[tokio::test]
    async fn redirects_keep_their_scheme_and_carry_no_address() {
        let router = Router::new()
            .route("/plain", get(|| async { Redirect::temporary("/target") }))
            .route("/other", get(|| async { Redirect::temporary("https://127.0.0.1:1/") }))
            .route("/target", get(|headers: HeaderMap| async move { format!("{:?}", headers.get("referer")) }));
        let base = serve(router).await;
        let client = client(None).unwrap();
        let followed = client.get(format!("{base}/plain?sig=secret")).send().await.unwrap();
        assert_eq!(followed.text().await.unwrap(), "None");
        let stopped = client.get(format!("{base}/other")).send().await.unwrap();
        assert_eq!(stopped.status(), 307);
    }

    /// A resolver that never answers.
    struct Silent;

    impl reqwest::dns::Resolve for Silent {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_counts_as_a_connection_that_does() {
        let limit = Duration::from_millis(50);
        let client = base().hickory_dns(false).dns_resolver(std::sync::Arc::new(Silent)).connect_timeout(limit).build();
        let error = client.unwrap().get("http://nobody.test/").send().await.unwrap_err();
        assert!(error.is_connect() && error.is_timeout(), "{error:?}");
    }

    #[tokio::test]
    async fn a_call_with_a_token_is_not_redirected() {
        let router = Router::new()
            .route("/call", get(|| async { Redirect::temporary("/target") }))
            .route("/target", get(|| async { "the token came here" }));
        let base = serve(router).await;
        let answer = caller(None).unwrap().get(format!("{base}/call")).send().await.unwrap();
        assert_eq!(answer.status(), 307);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_read_up_to_its_limit() {
        let endless = |encoding: Option<&'static str>| {
            let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
            let mut answer = axum::http::Response::builder();
            if let Some(encoding) = encoding {
                answer = answer.header("content-encoding", encoding);
            }
            answer.body(axum::body::Body::from_stream(pieces)).unwrap()
        };
        // A compressed megabyte; decompressed, it would be a thousand times as large.
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..1024).for_each(|_| std::io::Write::write_all(&mut bomb, &zeros).unwrap());
        let bomb = bomb.finish().unwrap();
        let size = bomb.len();
        let router = Router::new()
            .route("/endless", get(move || async move { endless(None) }))
            .route("/packed", get(move || async move { endless(Some("gzip")) }))
            .route("/long", get(|| async { "x".repeat(2 << 20) }))
            .route("/bomb", get(move || async move { ([("content-encoding", "gzip")], bomb) }))
            .route("/fits", get(|| async { "x".repeat(1 << 20) }));
        let base = serve(router).await;
        let client = client(None).unwrap();
        let read = async |path: &str, most| body(client.get(format!("{base}{path}")).send().await.unwrap(), most).await;
        for path in ["/endless", "/packed", "/long"] {
            assert!(matches!(read(path, 1 << 20).await, Err(BodyError::TooLarge(_))), "{path}");
        }
        assert_eq!(read("/fits", 1 << 20).await.unwrap().len(), 1 << 20);
        assert_eq!(read("/bomb", 2 << 20).await.unwrap().len(), size, "it stays as it was sent");
    }

    #[tokio::test]
    async fn it_says_who_it_is() {
        let router = Router::new()
            .route("/", get(|headers: HeaderMap| async move { headers["user-agent"].to_str().unwrap().to_owned() }));
        let base = serve(router).await;
        let text = client(None).unwrap().get(base).send().await.unwrap().text().await.unwrap();
        assert_eq!(text, format!("nix-cache-action/{}", env!("CARGO_PKG_VERSION")));
    }
}
