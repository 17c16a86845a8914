//! Lists of runs against a server that pages, stops after 1,000 results, and limits requests, as GitHub does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::remote::github::testing::serve;
use crate::remote::github::{RestConfig, Tuning};

/// When the first run was created.
const START: u64 = 1_790_000_000;

fn seconds(text: &str) -> u64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp().try_into().unwrap()
}

/// A repository with a run each `pause` seconds, in which request number `limited`, and all from number `broken` on, are refused.
#[derive(Clone)]
struct Server {
    count: u64,
    pause: u64,
    limited: u64,
    broken: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self { count: 0, pause: 10, limited: 0, broken: u64::MAX }
    }
}

impl Server {
    async fn start(self) -> (Runs, Arc<AtomicU64>) {
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        let list = move |Query(query): Query<HashMap<String, String>>| {
            let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
            let answer = self.answer(number, &query);
            async move { answer }
        };
        let jobs = |Path((_, _, run)): Path<(String, String, u64)>, Query(query): Query<HashMap<String, String>>| async move {
            let page: u64 = query["page"].parse().unwrap();
            // The first run has a large matrix, and the third one more jobs than are read.
            let all = match run - START {
                0 => 130,
                2 => 570,
                _ => 1,
            };
            let jobs: Vec<Value> = ((page - 1) * 100..all.min(page * 100))
                .map(|index| json!({ "name": format!("build ({index})") }))
                .collect();
            Json(json!({ "total_count": all, "jobs": jobs }))
        };
        let router = Router::new()
            .route("/repos/own/repo/actions/runs", get(list))
            .route("/repos/{owner}/{name}/actions/runs/{run}/jobs", get(jobs));
        let api_url = serve(router).await;
        let config = RestConfig { api_url, repository: "own/repo".into(), token: SecretString::from("ghs_secret") };
        let short = Duration::from_millis(1);
        let tuning = Tuning { rest_pause: short, rest_patience: short * 20, rpc_delay: short, ..Tuning::default() };
        (Runs(Requests::new(&config, tuning, None).unwrap()), requests)
    }

    fn answer(&self, number: u64, query: &HashMap<String, String>) -> Response {
        if number == self.limited || number >= self.broken {
            let message = "API rate limit exceeded for installation.";
            return (axum::http::StatusCode::FORBIDDEN, Json(json!({ "message": message }))).into_response();
        }
        assert_eq!(query["status"], "completed");
        let (from, to) = query["created"].split_once("..").unwrap();
        let (from, to) = (seconds(from), seconds(to));
        let all: Vec<u64> =
            (0..self.count).map(|index| START + index * self.pause).filter(|at| (from..=to).contains(at)).collect();
        // As GitHub: newest first, and nothing after the first 1,000.
        let (page, size): (usize, usize) = (query["page"].parse().unwrap(), query["per_page"].parse().unwrap());
        let shown = all.iter().rev().take(1_000).skip((page - 1) * size).take(size);
        let runs: Vec<Value> = shown.map(|at| json!({ "id": at, "name": "CI", "display_title": "<b>" })).collect();
        Json(json!({ "total_count": all.len(), "workflow_runs": runs })).into_response()
    }
}

#[tokio::test]
async fn all_pages_are_read_and_a_limit_in_the_middle_is_waited_for() {
    let (runs, requests) = Server { count: 950, limited: 5, ..Server::default() }.start().await;
    let list = runs.list(START, START + 100_000).await;
    assert_eq!((list.ids.len(), list.total, list.why), (950, 950, None));
    // Ten pages, and one once more.
    assert_eq!(requests.load(Ordering::Relaxed), 11);
    assert!(list.ids.is_sorted());
}

#[tokio::test]
async fn a_span_with_more_runs_than_a_list_has_is_split() {
    let (runs, _) = Server { count: 4_321, ..Server::default() }.start().await;
    let list = runs.list(START - 50, START + 43_210).await;
    assert_eq!((list.ids.len(), list.total, list.why), (4_321, 4_321, None));
    let (runs, _) = Server { count: 0, ..Server::default() }.start().await;
    let list = runs.list(START, START + 10).await;
    assert_eq!((list.ids.len(), list.total, list.why), (0, 0, None));
}

#[tokio::test]
async fn what_was_not_read_is_not_taken_for_absent() {
    let (runs, _) = Server { count: 3_000, broken: 15, ..Server::default() }.start().await;
    let list = runs.list(START, START + 30_000).await;
    assert_eq!(list.total, 3_000);
    assert!(!list.ids.is_empty() && list.ids.len() < 2_000, "{}", list.ids.len());
    assert!(list.why.as_ref().unwrap().contains("limits requests"), "{:?}", list.why);
    let (runs, _) = Server { broken: 1, ..Server::default() }.start().await;
    let list = runs.list(START, START + 10).await;
    assert!(list.ids.is_empty() && list.why.is_some());
}

#[tokio::test]
async fn jobs_of_a_large_matrix_are_on_several_pages() {
    let (runs, _) = Server::default().start().await;
    let read = async |run| {
        let (jobs, more) = runs.jobs(run).await.unwrap();
        (jobs.len(), more)
    };
    assert_eq!(read(START).await, (130, 0));
    assert_eq!(read(START + 1).await, (1, 0));
    assert_eq!(read(START + 2).await, (500, 70));
}
