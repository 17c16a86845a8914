//! A service that answers without end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{MOST, measured};
use crate::support::machine::Machine;
use crate::support::nix;

/// Most bytes of one answer that anybody would have to take to the end.
const END: u64 = 1 << 30;

/// Answers one request: `head`, then spaces in chunks until nobody listens any more.
fn answer(mut stream: TcpStream, head: &str, sent: &AtomicU64) -> std::io::Result<()> {
    let mut request = [0; 16 << 10];
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    write!(stream, "{head}\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let piece = [format!("{:x}\r\n", 1 << 16).as_bytes(), &vec![b' '; 1 << 16], b"\r\n"].concat();
    while sent.fetch_add(1 << 16, Ordering::Relaxed) < END {
        stream.write_all(&piece)?;
    }
    Ok(())
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let machine = Machine::new(&nix::all()[0]);
    let store = machine.store("store");
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 403 Forbidden",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counter = Arc::clone(&counter);
                // Who hangs up has read enough.
                std::thread::spawn(move || answer(stream.unwrap(), head, &counter));
            }
        });
        let mut command =
            machine.nix_cache(&["restore", "--format", "json", "--primary-key", "k", "--remote", "github"]);
        command.arg("--store-root").arg(&store.root);
        command.env("ACTIONS_RESULTS_URL", format!("http://{address}/")).env("ACTIONS_RUNTIME_TOKEN", "token");
        let (run, memory) = measured(command);
        let sent = sent.load(Ordering::Relaxed);
        println!("{head:?}: {sent} bytes sent, {memory} KiB of memory");
        assert_eq!(run.json()["hit"], "miss", "{run:?}");
        assert!(memory < MOST && sent < 200 << 20, "{head:?}: {memory} KiB, {sent} bytes");
    }
}
