//! Artifacts against a server that pages, redirects to another one, and limits requests, as GitHub does.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::remote::github::testing::{Seen, answer, cut, serve};
use crate::remote::github::{RestConfig, Tuning};

/// The host of the archives. It never sees the token.
async fn storage(seen: Seen) -> String {
    let reply = move |Path(name): Path<String>, headers: HeaderMap| async move {
        assert!(headers.get("authorization").is_none(), "the token was sent to another host");
        let before = seen.add(&*name);
        match &*name {
            "fits" => answer(200, &[], "zip"),
            "slow" if before < 4 => answer(503, &[], "busy"),
            "slow" => answer(200, &[], "late"),
            "cut" => answer(200, &[("content-length", "9")], cut(b"zi")),
            "endless" => {
                let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
                answer(200, &[], axum::body::Body::from_stream(pieces))
            }
            "again" => answer(302, &[("location", "/fits")], ""),
            _ => answer(403, &[], "the signature has expired"),
        }
    };
    serve(Router::new().route("/{name}", get(reply))).await
}

fn page(count: u64, page: u64) -> Value {
    // Newest first; one that was uploaded meanwhile has moved the others by one.
    let shift = u64::from(page > 1);
    let ids = (0..count).rev().skip(((page - 1) * 100 - shift).try_into().unwrap()).take(100);
    let item = |id: u64| {
        json!({"id": id, "name": format!("n-{}", id % 2), "size_in_bytes": 9, "expired": id < 4, "archive_download_url": "x",
            "created_at": "2026-11-01T10:00:00Z", "workflow_run": if id == 1 { Value::Null } else { json!({"id": id + 7, "head_branch": null}) }})
    };
    json!({"total_count": count, "artifacts": ids.map(item).collect::<Vec<_>>()})
}

/// A repository with `count` artifacts, whose archives are at `storage`.
async fn artifacts(count: u64, limited: bool, storage: String) -> Artifacts {
    let list = move |headers: HeaderMap, Query(query): Query<HashMap<String, String>>| async move {
        assert_eq!((&headers["authorization"], &*query["per_page"]), (&"Bearer ghs_secret".parse().unwrap(), "100"));
        let number: u64 = query["page"].parse().unwrap();
        if limited && number > 1 {
            let limits = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999")];
            return answer(403, &limits, r#"{"message": "API rate limit exceeded"}"#).into_response();
        }
        Json(page(count, number)).into_response()
    };
    let zip = move |Path(id): Path<u64>| async move {
        let to = |name: &str| answer(302, &[("location", &format!("{storage}/{name}"))], "").into_response();
        match id {
            1 => to("fits"),
            2 => to("slow"),
            3 => to("cut"),
            4 => to("endless"),
            5 => to("again"),
            6 => to("refused"),
            7 => answer(302, &[("location", "file:///etc/passwd")], "").into_response(),
            8 => answer(410, &[], r#"{"message": "Artifact has expired"}"#).into_response(),
            9 => answer(403, &[], r#"{"message": "Resource not accessible by integration"}"#).into_response(),
            _ => Response::new("no redirect".into()),
        }
    };
    let run = |Path(id): Path<u64>| async move {
        Json(
            json!({"id": id, "event": "pull_request", "head_branch": "fix", "head_sha": "abc", "run_attempt": 2, "name": "CI",
            "created_at": "2026-11-01T09:00:00Z", "repository": {"id": 1, "full_name": "own/repo"}, "head_repository": null}),
        )
    };
    let router = Router::new()
        .route("/repos/own/repo/actions/artifacts", get(list))
        .route("/repos/own/repo/actions/artifacts/{id}/zip", get(zip))
        .route("/repos/own/repo/actions/runs/{id}", get(run));
    let config = RestConfig {
        api_url: serve(router).await,
        repository: "own/repo".into(),
        token: SecretString::from("ghs_secret"),
    };
    let tuning = Tuning { rpc_delay: Duration::from_millis(1), ..Tuning::default() };
    Artifacts(Requests::new(&config, tuning, None).unwrap())
}

#[tokio::test]
async fn all_pages_are_listed_once_and_what_a_limit_hides_is_said() {
    let all = artifacts(250, false, String::new()).await.list(|name| name == "n-1").await;
    assert_eq!((all.found.len(), all.why), (125, None));
    assert!(all.found.is_sorted_by(|one, other| one.id > other.id));
    assert_eq!((all.found[0].workflow_run.map(|run| run.id), all.found[0].expired), (Some(256), false));
    assert_eq!((all.found[124].workflow_run, all.found[124].expired), (None, true));
    let limited = artifacts(250, true, String::new()).await.list(|_| true).await;
    assert_eq!(limited.found.len(), 100);
    assert!(limited.why.as_ref().unwrap().contains("GitHub limits requests"), "{:?}", limited.why);
    let many = artifacts(6_000, false, String::new()).await.list(|_| true).await;
    assert!(many.why.unwrap().contains("newest 5000 artifacts"));
}

#[tokio::test]
async fn an_archive_comes_from_another_host_without_the_token_and_within_bounds() {
    let seen = Seen::default();
    let all = artifacts(0, false, storage(seen.clone()).await).await;
    let archive = async |id| all.archive(&ArtifactInfo { id, ..ArtifactInfo::default() }, 1 << 10).await;
    assert_eq!(archive(1).await.unwrap(), b"zip");
    assert_eq!(archive(2).await.unwrap(), b"late");
    let mut refused = Vec::new();
    for id in 3..=10 {
        refused.push(archive(id).await.unwrap_err());
    }
    let expected = ["cannot be read", "larger than 1 KiB", "status 302", "status 403", "usable address", "any more"];
    for (refused, expected) in refused.iter().zip(expected) {
        let Missed::This(why) = refused else { panic!("{refused:?}") };
        assert!(why.contains(expected) && !why.contains("http"), "{why}");
    }
    let Missed::All(why) = &refused[6] else { panic!("{refused:?}") };
    assert!(why.contains("the permission `actions: read`"), "{why}");
    assert!(matches!(&refused[7], Missed::This(why) if why.contains("usable address")), "{refused:?}");
    // Once, three times, as often for one that breaks off, and once for each of the others.
    assert_eq!(seen.count(), 1 + 3 + 3 + 3);
}

#[tokio::test]
async fn a_run_says_where_it_is_from() {
    let run = artifacts(0, false, String::new()).await.run(9).await.unwrap();
    assert_eq!((run.id, &*run.event, run.head_branch.as_deref(), run.run_attempt), (9, "pull_request", Some("fix"), 2));
    assert!(run.head_repository.is_none() && run.repository.full_name == "own/repo");
}
