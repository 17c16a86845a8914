//! A real S3 server on loopback: `moto`, from the virtual environment of the tests. It ends with the test process, however that ends.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Ends when its standard input is closed. `moto` checks a condition and writes in two steps; a store does both at once.
const SERVER: &str = "
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
moto, one = DomainDispatcherApplication(create_backend_app), threading.Lock()
def app(request, start):
    if 'HTTP_IF_NONE_MATCH' not in request:
        return moto(request, start)
    with one:
        return list(moto(request, start))
run_simple('127.0.0.1', int(sys.argv[1]), app, threaded=True)
";

/// The keys that the tests have. The server accepts any.
pub(crate) const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST"),
    ("AWS_SECRET_ACCESS_KEY", "tests/secret+key"),
    ("AWS_REGION", "us-east-1"),
];

static SERVERS: OnceLock<Option<(Child, SocketAddr)>> = OnceLock::new();
static BUCKETS: AtomicUsize = AtomicUsize::new(0);

/// Returns the address of the server, which all tests of this process share; None, with the reason printed, if `moto` is not installed.
pub(crate) fn server() -> Option<SocketAddr> {
    let address = SERVERS.get_or_init(start).as_ref().map(|(_, address)| *address);
    if address.is_none() {
        let required = std::env::var("NIX_CACHE_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "moto is not installed: run scripts/setup-act.sh");
        eprintln!("Skipped: moto is not installed.");
    }
    address
}

fn start() -> Option<(Child, SocketAddr)> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python3");
    let has_moto = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
    if !has_moto.is_ok_and(|status| status.success()) {
        return None;
    }
    // Another process can take the port in between; then the server ends at once and another port is tried.
    for _ in 0..5 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new(&python)
            .args(["-c", SERVER, &address.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log.by_ref(), &mut std::io::sink()));
        while child.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some((child, address));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    None
}

/// Creates a bucket with a name of its own and returns the name.
pub(crate) fn bucket(server: SocketAddr) -> String {
    let name = format!("bucket-{}-{}", std::process::id(), BUCKETS.fetch_add(1, Ordering::Relaxed));
    let answer = plain(server, "PUT", &format!("/{name}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    name
}

/// Sends a request with a signature that nobody checks, and returns the whole answer.
pub(crate) fn plain(server: SocketAddr, method: &str, path: &str) -> String {
    send(server, method, path, &[])
}

/// Writes an object past all clients.
#[allow(dead_code, reason = "of the unit tests")]
pub(crate) fn put_plainly(server: SocketAddr, path: &str, body: &[u8]) -> String {
    send(server, "PUT", path, body)
}

fn send(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(server).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut connection, &[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
