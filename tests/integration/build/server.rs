//! A binary cache that fails as it is told: a folder that `nix copy` has filled, behind a server that first refuses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// How it fails.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    /// Requests for files whose names end so are refused.
    pub of: &'static str,
    /// How often; after that it serves.
    pub times: u64,
    /// In which way.
    pub fault: Fault,
}

/// What becomes of a request that is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// This status; 200 gives an answer that makes no sense.
    Status(u16),
    /// Half of the file, and then nothing.
    Cut,
    /// Something else than the file.
    Damaged,
}

/// A server on a free port of the loopback, stopped when it is dropped.
pub(super) struct Server {
    pub url: String,
    state: Arc<Cache>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Cache {
    folder: PathBuf,
    refusals: Refusals,
    refused: AtomicU64,
    asked: Mutex<Vec<String>>,
}

impl Server {
    /// Serves the binary cache in a folder.
    pub(super) fn start(folder: PathBuf, refusals: Refusals) -> Self {
        let state = Arc::new(Cache { folder, refusals, refused: AtomicU64::new(0), asked: Mutex::new(Vec::new()) });
        let router = Router::new().route("/{*file}", get(serve)).with_state(Arc::clone(&state));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let ended = async {
                    let _ = stopped.await;
                };
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    () = ended => {}
                }
            });
        });
        let url = format!("http://{}", told.recv().unwrap());
        Self { url, state, stop: Some(stop), thread: Some(thread) }
    }

    /// How many requests were refused.
    pub(super) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// The files that were asked for, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(State(cache): State<Arc<Cache>>, Path(file): Path<String>) -> Response {
    cache.asked.lock().unwrap().push(file.clone());
    let refusals = &cache.refusals;
    let bytes = std::fs::read(cache.folder.join(&file));
    if file.ends_with(refusals.of) && cache.refused.load(Ordering::Relaxed) < refusals.times {
        cache.refused.fetch_add(1, Ordering::Relaxed);
        return match (refusals.fault, bytes) {
            (Fault::Status(status), _) => {
                (StatusCode::from_u16(status).unwrap(), b"this is no narinfo\n".to_vec()).into_response()
            }
            (Fault::Cut, Ok(bytes)) => {
                let half = futures_util::stream::iter([
                    Ok(bytes[..bytes.len() / 2].to_vec()),
                    Err(std::io::Error::other("the connection is cut")),
                ]);
                ([(CONTENT_LENGTH, bytes.len())], Body::from_stream(half)).into_response()
            }
            (Fault::Damaged, Ok(bytes)) => bytes.into_iter().rev().collect::<Vec<u8>>().into_response(),
            (_, Err(_)) => StatusCode::NOT_FOUND.into_response(),
        };
    }
    match bytes {
        Ok(bytes) => bytes.into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
