//! Blob storage: uploads in one piece and in blocks, downloads whole and in ranges.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::calls::lifetime;
use super::client::Client;
use super::table::Table;

const TEXT: &[u8] = b"0123456789";

/// An entry that is uploaded in one piece.
pub(super) async fn one_piece(client: &Client, table: &mut Table) {
    let key = client.key("blob");
    let upload = client.create(&key).await.text("signed_upload_url");
    let reply = client.put_without_type(&upload, TEXT).await;
    table.check("an upload without its type", "400", reply.describe(), reply.status == 400);
    table.status("an upload in one piece", &client.put_blob(&upload, TEXT).await, 201, "");
    let reply = client.get(&upload).await;
    table.check("a download from an upload's address", "403", reply.describe(), reply.status == 403);
    client.finalize(&key, TEXT.len()).await;
    client.wait_for(&key).await;
    let download = client.lookup(&key, &[&key]).await.text("signed_download_url");
    table.fact("time that a download's address holds", &lifetime(&download));
    let reply = client.put_blob(&download, TEXT).await;
    table.check("an upload to a download's address", "403", reply.describe(), reply.status == 403);
    downloads(client, table, &download).await;
}

async fn downloads(client: &Client, table: &mut Table, url: &str) {
    let whole = client.get(url).await;
    let got = format!("{} with {} bytes", whole.status, whole.body.len());
    table.check("a download", "200 with 10 bytes", got, whole.status == 200 && whole.body == TEXT);
    let head = client.head(url).await;
    let got = format!("{} with length {}", head.status, head.header("content-length"));
    let holds = head.status == 200 && head.header("content-length") == "10";
    table.check("a HEAD", "200 with length 10", got, holds);
    let range = client.get_range(url, "bytes=2-4").await;
    let got = format!("{} {} with {} bytes", range.status, range.header("content-range"), range.body.len());
    let holds = range.status == 206 && range.header("content-range") == "bytes 2-4/10" && range.body == "234";
    table.check("a range", "206 bytes 2-4/10 with 3 bytes", got, holds);
    let open = client.get_range(url, "bytes=8-99").await;
    let got = format!("{} {}", open.status, open.header("content-range"));
    let holds = open.status == 206 && open.header("content-range") == "bytes 8-9/10" && open.body == "89";
    table.check("a range over the end", "206 bytes 8-9/10", got, holds);
    table.status("a range behind the end", &client.get_range(url, "bytes=10-19").await, 416, "InvalidRange");
    table.fact("time of a range", &format!("{} ms", range.milliseconds));
    table.fact("ETag", whole.header("etag"));
}

/// An entry that is uploaded in blocks.
pub(super) async fn blocks(client: &Client, table: &mut Table) {
    let key = client.key("blocks");
    let upload = client.create(&key).await.text("signed_upload_url");
    // The form of the JavaScript SDK: 48 bytes in base64. Some servers take no other.
    let id = |number: u32| STANDARD.encode(format!("5f0e1d2c-3b4a-4988-8776-655443322110{number:012}"));
    let (first, second, missing) = (id(0), id(1), id(2));
    table.status("the second block first", &client.put_block(&upload, &second, b"56789").await, 201, "");
    table.status("the first block", &client.put_block(&upload, &first, b"01234").await, 201, "");
    let reply = client.put_block_list(&upload, &[&first, &missing]).await;
    table.status("a list with a block that is not there", &reply, 400, "InvalidBlockList");
    table.status("a list of both", &client.put_block_list(&upload, &[&first, &second]).await, 201, "");
    table.answer("its finish", &client.finalize(&key, TEXT.len()).await, &json!({ "ok": true }));
    client.wait_for(&key).await;
    let download = client.lookup(&key, &[&key]).await.text("signed_download_url");
    let whole = client.get(&download).await;
    let got = format!("{} with {} bytes", whole.status, whole.body.len());
    table.check("its bytes", "both blocks in the order of the list", got, whole.body == TEXT);
}
