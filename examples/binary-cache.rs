//! A Nix binary cache in a folder, over HTTP, for `nix copy --to` and `--from`: with `--link` as slow as the cache service of a hosted
//! runner, so that both can be compared.
//!
//! `cargo run --example binary-cache -- --listen 127.0.0.1:0 --dir DIR [--link]`
//!
//! It prints its address and runs until it is interrupted.

#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program of its own, for developers")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use clap::Parser;
use futures_util::{StreamExt as _, stream};
use link::{Direction, Link, LinkConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "../tests/integration/support/fake/link.rs"]
mod link;

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// A binary cache on this machine.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder with the cache.
    #[arg(long)]
    dir: PathBuf,
    /// Be as slow as the way from a hosted runner to its cache.
    #[arg(long)]
    link: bool,
}

struct Cache {
    folder: PathBuf,
    link: Link,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, dir, link } = Arguments::parse();
    std::fs::create_dir_all(&dir)?;
    let cache = Arc::new(Cache { folder: dir, link: Link::new(link.then(LinkConfig::hosted_runner)) });
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        println!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(cache);
        tokio::select! {
            served = async { axum::serve(listener, router).await } => Ok(served?),
            stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        }
    })
}

async fn answer(State(cache): State<Arc<Cache>>, request: Request) -> Response {
    cache.link.latency().await;
    let Some(file) = file_of(&cache.folder, request.uri().path()) else { return status(StatusCode::BAD_REQUEST) };
    let done = match *request.method() {
        Method::GET => send(&cache, &file).await,
        Method::HEAD => tokio::fs::metadata(&file).await.map(|_| status(StatusCode::OK)),
        Method::PUT => receive(&cache, &file, request.into_body()).await,
        _ => return status(StatusCode::METHOD_NOT_ALLOWED),
    };
    done.unwrap_or_else(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return status(StatusCode::NOT_FOUND);
        }
        eprintln!("{}: {error}", file.display());
        status(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

fn status(code: StatusCode) -> Response {
    Response::builder().status(code).body(Body::empty()).expect("a status is enough")
}

/// The file that a path of a URL names; none if it leads out of the folder.
fn file_of(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(path))
}

async fn send(cache: &Cache, file: &Path) -> std::io::Result<Response> {
    let file = tokio::fs::File::open(file).await?;
    let length = file.metadata().await?.len();
    let pace = cache.link.open(Direction::Down);
    let body = stream::try_unfold((file, pace), |(mut file, mut pace)| async move {
        let mut piece = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        pace.pass(piece.len()).await;
        std::io::Result::Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, pace))))
    });
    let answer = Response::builder().header("content-length", length);
    Ok(answer.body(Body::from_stream(body)).expect("a number is a valid header"))
}

async fn receive(cache: &Cache, file: &Path, body: Body) -> std::io::Result<Response> {
    let folder = file.parent().unwrap_or(&cache.folder);
    tokio::fs::create_dir_all(folder).await?;
    // Nobody sees half a file.
    let (new, path) = tempfile::NamedTempFile::new_in(folder)?.into_parts();
    let (mut new, mut pace) = (tokio::fs::File::from_std(new), cache.link.open(Direction::Up));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(std::io::Error::other)?;
        pace.pass(piece.len()).await;
        new.write_all(&piece).await?;
    }
    new.flush().await?;
    path.persist(file)?;
    Ok(status(StatusCode::OK))
}
