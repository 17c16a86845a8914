//! Tests of [`super::http`] against servers that misbehave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::remote::github::testing::{answer, quick, serve};
use crate::remote::tuning::Tuning;

type Files = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// A server that keeps what it is given, after `reply` had a chance to answer to the request of this number, from 0.
async fn server(
    reply: impl Fn(&Request, usize) -> Option<Response<Body>> + Clone + Send + Sync + 'static,
) -> (String, Files) {
    let (files, count) = (Files::default(), Arc::new(Mutex::new(0)));
    let kept = Arc::clone(&files);
    let handler = move |request: Request| {
        let (reply, files, count) = (reply.clone(), Arc::clone(&kept), Arc::clone(&count));
        async move {
            let number = {
                let mut count = count.lock().unwrap();
                *count += 1;
                *count - 1
            };
            if let Some(own) = reply(&request, number) {
                return own;
            }
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let body = axum::body::to_bytes(request.into_body(), 1 << 24).await.unwrap();
            let mut files = files.lock().unwrap();
            match (method.as_str(), files.get(&path)) {
                ("PUT", _) => {
                    files.insert(path, body);
                    answer(201, &[], "")
                }
                (_, Some(bytes)) => answer(200, &[], bytes.clone()),
                (_, None) => answer(404, &[], ""),
            }
        }
    };
    (serve(Router::new().fallback(handler)).await, files)
}

fn objects(base: &str, variables: &[(&str, &str)]) -> HttpObjects {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    // Long enough for a busy machine, and short enough for a server that hangs.
    let tuning = Tuning { lookup_timeout: Duration::from_secs(2), upload_stall: Duration::from_secs(2), ..quick() };
    HttpObjects::new(http_address(&format!("{base}/cache")).unwrap(), Login::from_env(variable).unwrap(), tuning)
        .unwrap()
}

fn bytes(size: usize) -> Source {
    Source::Bytes(Bytes::from(vec![b'x'; size]))
}

#[tokio::test]
async fn an_object_is_read_as_it_was_written_last() {
    let (base, files) = server(|_, _| None).await;
    let objects = objects(&base, &[]);
    assert_eq!(objects.read("a.narinfo", 10).await, Ok(None));
    for size in [3, 1 << 20, 5] {
        objects.write("nar/a", &bytes(size)).await.unwrap();
        assert_eq!(files.lock().unwrap()["/cache/nar/a"].len(), size);
    }
    assert_eq!(objects.read("nar/a", 10).await, Ok(Some(b"xxxxx".to_vec())));
    assert!(matches!(objects.read("nar/a", 4).await, Err(ObjectError::Failed(_))));
}

#[tokio::test]
async fn what_passes_is_retried() {
    // Every status that passes, and then success.
    let statuses = [429, 500, 502, 503, 504];
    let (base, files) = server(move |_, number| statuses.get(number).map(|status| answer(*status, &[], ""))).await;
    objects(&base, &[]).write("a", &bytes(100_000)).await.unwrap();
    assert_eq!(files.lock().unwrap()["/cache/a"].len(), 100_000);
}

#[tokio::test]
async fn what_does_not_pass_is_named_with_its_remedy_after_one_try() {
    for (status, says) in [
        (401, "Set NIX_CACHE_PUSH_TOKEN"),
        (403, "Set NIX_CACHE_PUSH_TOKEN"),
        (404, "accepts no PUT"),
        (405, "accepts no PUT"),
        (409, "create `nar`"),
        (413, "client_max_body_size"),
        (507, "disk is full"),
        (302, "Redirects are not followed"),
        (418, "the server answered 418"),
    ] {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let (base, _) = server(move |_, number| {
            *count.lock().unwrap() = number + 1;
            Some(answer(status, &[("location", "/elsewhere")], ""))
        })
        .await;
        let error = objects(&base, &[]).write("nar/a", &bytes(5)).await.unwrap_err();
        assert!(error.to_string().contains(says) && error.to_string().contains("nar/a"), "{status}: {error}");
        let kind = match status {
            413 => matches!(error, ObjectError::TooLarge(_)),
            418 => matches!(error, ObjectError::Failed(_)),
            _ => matches!(error, ObjectError::Refused(_)),
        };
        assert!(kind && *asked.lock().unwrap() == 1, "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_given_up() {
    let (base, _) = server(|_, _| Some(answer(503, &[("retry-after", "0")], ""))).await;
    let error = objects(&base, &[]).write("a", &bytes(5)).await.unwrap_err();
    assert!(
        matches!(&error, ObjectError::Failed(why) if why.contains("503") && why.contains("after 6 tries")),
        "{error}"
    );
    let error = objects("http://127.0.0.1:1", &[]).read("a", 5).await.unwrap_err();
    assert!(matches!(&error, ObjectError::Failed(why) if why.contains("connection failed")), "{error}");
}

/// The first connections are reset in the middle of the body, then hang, then deliver half an answer.
#[tokio::test]
async fn connections_that_break_or_hang_are_retried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                let _ = connection.read(&mut buffer).await;
                match number {
                    0 => {}
                    1 => tokio::time::sleep(Duration::from_secs(20)).await,
                    2 => _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await,
                    _ => {
                        while !buffer.is_empty() {
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone";
                            // The body is read to its end, so that the connection is not reset.
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            let _ = connection.write_all(answer).await;
                            let _ = connection.shutdown().await;
                            while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                            buffer.clear();
                        }
                    }
                }
            });
        }
    });
    let objects = objects(&base, &[]);
    assert_eq!(objects.read("a", 100).await, Ok(Some(b"done".to_vec())));
    objects.write("a", &bytes(1 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_login_is_sent_to_its_host_alone_and_shown_nowhere() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (base, _) = server(move |request, _| {
        let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        log.lock().unwrap().push(header("authorization").unwrap_or_default());
        Some(answer(StatusCode::FORBIDDEN.as_u16(), &[], ""))
    })
    .await;
    for variables in [[("NIX_CACHE_PUSH_TOKEN", "hunter2")], [("NIX_CACHE_PUSH_LOGIN", "me:hunter2")]] {
        let error = objects(&base, &variables).write("a", &bytes(5)).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2") && error.to_string().contains("Check NIX_CACHE"), "{error}");
    }
    assert_eq!(*seen.lock().unwrap(), ["Bearer hunter2", "Basic bWU6aHVudGVyMg=="]);
    let login = |token: &str, login: &str| {
        let (token, login) = (token.to_owned(), login.to_owned());
        Login::from_env(move |name| Some(if name == "NIX_CACHE_PUSH_TOKEN" { token.clone() } else { login.clone() }))
    };
    assert!(matches!(login(" ", ""), Ok(None)));
    for (token, user) in [("hunter2", "me:hunter2"), ("", "hunter2"), ("hunter2\n\u{7f}x", "")] {
        let error = login(token, user).err().unwrap();
        assert!(!error.contains("hunter2") && error.contains("NIX_CACHE_PUSH_"), "{error}");
    }
}
