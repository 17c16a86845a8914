//! Pushes to servers: one that accepts `PUT`, and an object store.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{failing, fetch, push, push_command};
use crate::signed::key;
use crate::support::machine::Machine;
use crate::support::program::{Run, notes};
use crate::support::{moto, nix};

/// A request: method, path, headers in lower case.
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    head: String,
    body: Vec<u8>,
}

pub(crate) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// What the server does with a request.
pub(crate) enum Answer {
    /// As a file server does.
    Serve,
    Status(u16),
    /// The connection ends.
    Reset,
}

/// A file server that accepts `PUT`, unless `decide` says otherwise. It ends with the test process.
pub(crate) fn server(decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (SocketAddr, Files) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, files, decide) = (listener.local_addr().unwrap(), Files::default(), Arc::new(decide));
    let kept = Arc::clone(&files);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (files, decide) = (Arc::clone(&kept), Arc::clone(&decide));
            std::thread::spawn(move || answer(connection, &files, &*decide));
        }
    });
    (address, files)
}

/// Answers one request.
fn answer(mut connection: TcpStream, files: &Files, decide: &dyn Fn(&Request) -> Answer) -> Option<()> {
    let request = read(&mut connection)?;
    let mut files = files.lock().unwrap();
    let (status, body) = match decide(&request) {
        Answer::Reset => return None,
        Answer::Status(status) => (status, Vec::new()),
        Answer::Serve if request.method == "PUT" => {
            files.insert(request.path, request.body);
            (201, Vec::new())
        }
        Answer::Serve => files.get(&request.path).map_or((404, Vec::new()), |bytes| (200, bytes.clone())),
    };
    let body = if request.method == "HEAD" { Vec::new() } else { body };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    connection.write_all(&[head.into_bytes(), body].concat()).ok()
}

fn read(connection: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        let read = connection.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let first = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut words = first.split(' ').map(str::to_owned);
            let (method, path) = (words.next()?, words.next()?);
            return Some(Request { method, path, head, body: bytes.split_off(end + 4) });
        }
    }
}

/// Asserts that everything which is announced is there, and everything that it refers to is announced. Returns the number of paths.
fn assert_closed(files: &BTreeMap<String, Vec<u8>>) -> usize {
    let narinfos: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".narinfo")).collect();
    for (name, text) in &narinfos {
        let text = String::from_utf8_lossy(text);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        assert!(files.contains_key(&format!("/{}", field("URL: "))), "{name} has no archive");
        for reference in field("References: ").split_whitespace() {
            assert!(files.contains_key(&format!("/{}.narinfo", &reference[..32])), "{name} refers to {reference}");
        }
    }
    narinfos.len()
}

#[test]
fn a_job_that_is_killed_leaves_a_cache_that_is_complete_in_itself() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, store) = (key(&machine, "ours-1"), machine.store("first"));
    let built = store.build(&["everything"]);
    let (victim, puts) = (Arc::new(Mutex::new(None::<u32>)), Mutex::new(0));
    let pid = Arc::clone(&victim);
    // The server kills its client in the middle of the fifteenth request to write.
    let (address, files) = server(move |request| {
        let mut puts = puts.lock().unwrap();
        *puts += usize::from(request.method == "PUT");
        if *puts != 15 || request.method != "PUT" {
            return Answer::Serve;
        }
        let pid = loop {
            match *pid.lock().unwrap() {
                Some(pid) => break pid,
                None => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.unwrap().success());
        Answer::Reset
    });
    let to = format!("http://{address}");
    let mut child = push_command(&store, &to, Some(&ours), &built).stdout(std::process::Stdio::null()).spawn().unwrap();
    *victim.lock().unwrap() = Some(child.id());
    assert!(!child.wait().unwrap().success());
    let there = assert_closed(&files.lock().unwrap());
    assert!(there < store.valid().len(), "{there}");
    // The next job pushes the rest.
    let outcome = push(&store, &to, Some(&ours), &built);
    assert_eq!(outcome["sinks"][0]["complete"], true, "{outcome}");
    let all = assert_closed(&files.lock().unwrap());
    assert_eq!(all as u64, outcome["paths-considered"].as_u64().unwrap());
    fetch(&machine.store("reader"), &to, &ours.public, &built[0]).unwrap();
}

#[test]
fn a_server_that_trips_gets_everything_and_every_nix_reads_it() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (ours, store) = (key(&machine, "ours-1"), machine.store("first"));
    let built = store.build(&["everything"]);
    // The first request for each file fails: by turns with 503, 429 or a connection that ends.
    let seen = Mutex::new(BTreeMap::<String, usize>::new());
    let (address, files) = server(move |request| {
        let mut seen = seen.lock().unwrap();
        let turn = seen.len();
        let count = seen.entry(format!("{} {}", request.method, request.path)).or_default();
        *count += 1;
        match (*count, turn % 3) {
            (1, 0) if request.method == "PUT" => Answer::Status(503),
            (1, 1) if request.method == "PUT" => Answer::Reset,
            (1, 2) if request.method == "PUT" => Answer::Status(429),
            _ => Answer::Serve,
        }
    });
    let to = format!("http://{address}/cache");
    let outcome = push(&store, &to, Some(&ours), &built);
    assert_eq!((&outcome["sinks"][0]["complete"], notes(&outcome)), (&true.into(), vec![]), "{outcome}");
    assert!(files.lock().unwrap().contains_key("/cache/nix-cache-info"));
    for reader in nix::all() {
        let reading = machine.with(reader).store(&format!("reader-{}", reader.version));
        fetch(&reading, &to, &ours.public, &built[0]).unwrap();
        assert_eq!(reading.valid().len() as u64, outcome["sinks"][0]["paths-pushed"]);
    }
}

#[test]
fn a_server_that_refuses_is_a_warning_and_the_login_goes_nowhere_else() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, store) = (key(&machine, "ours-1"), machine.store("first"));
    let built = store.build(&["onTop"]);
    for (status, code) in [(401, "push-refused"), (403, "push-refused"), (409, "push-refused"), (503, "push-failed")] {
        let (address, files) =
            server(move |request| if request.method == "PUT" { Answer::Status(status) } else { Answer::Serve });
        let to = format!("http://{address}");
        let outcome = failing(push_command(&store, &to, Some(&ours), &built));
        assert_eq!(notes(&outcome), [code], "{status}: {outcome}");
        assert!(files.lock().unwrap().is_empty());
    }
    // Archives that are too large do not keep others from being pushed, and nothing refers to what is absent.
    let (address, files) = server(|request| match request.body.len() {
        size if request.path.contains("/nar/") && size > 1000 => Answer::Status(413),
        _ => Answer::Serve,
    });
    let everything = store.build(&["everything"]);
    let outcome = failing(push_command(&store, &format!("http://{address}"), Some(&ours), &everything));
    assert_eq!(notes(&outcome), ["push-incomplete"], "{outcome}");
    assert!(assert_closed(&files.lock().unwrap()) > 0);

    let (address, files) = server(|request| {
        let may = request.head.contains("authorization: bearer hunter2");
        if may { Answer::Serve } else { Answer::Status(401) }
    });
    let to = format!("http://{address}");
    let outcome = failing(push_command(&store, &to, Some(&ours), &built));
    assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("NIX_CACHE_PUSH_TOKEN"), "{outcome}");
    let mut command = push_command(&store, &to, Some(&ours), &built);
    let run = Run::of({
        command.env("NIX_CACHE_PUSH_TOKEN", "hunter2").arg("--verbose");
        command
    });
    assert_eq!(run.json()["sinks"][0]["complete"], true);
    assert!(!run.log.contains("hunter2") && !files.lock().unwrap().is_empty());
}

#[test]
fn an_object_store_gets_everything_and_every_nix_reads_it() {
    let Some(nix) = nix::all().first() else { return };
    let Some(server) = moto::server() else { return };
    let machine = Machine::new(nix);
    let (ours, store, bucket) = (key(&machine, "ours-1"), machine.store("first"), moto::bucket(server));
    let built = store.build(&["everything"]);
    let to = format!("s3://{bucket}/nix?endpoint=http://{server}");
    let run = |keys: &[(&str, &str)]| {
        let mut command = push_command(&store, &to, Some(&ours), &built);
        command.envs(keys.iter().copied());
        command
    };
    let outcome = failing(run(&[("AWS_ACCESS_KEY_ID", "")]));
    assert_eq!(notes(&outcome), ["push-refused"], "{outcome}");
    let outcome = Run::of(run(&moto::KEYS)).json();
    assert_eq!((&outcome["sinks"][0]["complete"], notes(&outcome)), (&true.into(), vec![]), "{outcome}");
    let again = Run::of(run(&moto::KEYS)).json();
    assert_eq!(again["sinks"][0]["paths-present"], outcome["sinks"][0]["paths-pushed"]);
    // Nix reads without keys, so the objects become public.
    let listed = moto::plain(server, "GET", &format!("/{bucket}?list-type=2"));
    let keys: Vec<&str> = listed.split("<Key>").skip(1).filter_map(|part| part.split("</Key>").next()).collect();
    assert!(keys.len() > 2 && keys.iter().all(|key| key.starts_with("nix/")), "{listed}");
    for key in keys {
        let mut connection = TcpStream::connect(server).unwrap();
        let request = format!(
            "PUT /{bucket}/{key}?acl HTTP/1.1\r\nHost: {server}\r\nx-amz-acl: public-read\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for reader in nix::all() {
        let reading = machine.with(reader).store(&format!("reader-{}", reader.version));
        fetch(&reading, &format!("http://{server}/{bucket}/nix"), &ours.public, &built[0]).unwrap();
        assert_eq!(reading.valid().len() as u64, outcome["sinks"][0]["paths-pushed"]);
    }
}
