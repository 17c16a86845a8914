//! Uploads: Put Blob, Put Block and Put Block List, as Azure's block blobs have them.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::blobs::{BlobError, Content, Listed, MOST_BLOCKS};
use super::clock::http_date;
use super::link::Direction;
use super::operation::{Call, Operation};
use super::sas;
use super::service::Service;

const MIB: u64 = 1 << 20;
const LARGEST_BLOB: u64 = 5000 * MIB;
const LARGEST_BLOCK: u64 = 4000 * MIB;
/// Block lists are text; the longest allowed has 50,000 lines of less than 100 bytes.
const LARGEST_LIST: usize = 8 << 20;

/// Block ids have 64 characters (48 bytes), as the JavaScript SDK makes them. Azure takes shorter ones if all of a blob
/// have one length, but a known server of the same protocol does not, so the fake holds clients to the form that works
/// everywhere.
const BLOCK_ID: usize = 64;

/// Carries an upload out.
///
/// # Errors
/// The answer of the blob store.
pub(super) async fn put(service: &Service, call: &Call, body: Body) -> Result<Response, BlobError> {
    let allowed = sas::check(&service.mint, call, "cw", service.clock.now()).and_then(|()| match call.operation {
        Operation::PutBlob => check_blob(call),
        Operation::PutBlock => check_block(call),
        _ => length(call).map(|_| ()),
    });
    if let Err(refused) = allowed {
        discard(body).await;
        return Err(refused);
    }
    match call.operation {
        Operation::PutBlob => put_blob(service, call, body).await,
        Operation::PutBlock => put_block(service, call, body).await,
        _ => put_list(service, call, body).await,
    }
}

/// Reads a body to its end, so that the client sees the answer and not a connection that closes under its hands.
pub(super) async fn discard(body: Body) {
    use futures_util::StreamExt as _;
    let mut chunks = body.into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

async fn put_blob(service: &Service, call: &Call, body: Body) -> Result<Response, BlobError> {
    let segment = receive(service, body).await?;
    Ok(committed(&service.blobs.put(call.blob(), segment, service.clock.now())?))
}

async fn put_block(service: &Service, call: &Call, body: Body) -> Result<Response, BlobError> {
    let segment = receive(service, body).await?;
    service.blobs.stage(call.blob(), call.query("blockid").unwrap_or_default(), segment)?;
    Ok(created().body(Body::empty()).expect("the headers are plain text"))
}

async fn put_list(service: &Service, call: &Call, body: Body) -> Result<Response, BlobError> {
    let xml = to_bytes(body, LARGEST_LIST).await.map_err(|_| invalid_xml())?;
    let xml = std::str::from_utf8(&xml).map_err(|_| invalid_xml())?;
    let list = parse_list(xml).ok_or_else(invalid_xml)?;
    if list.len() > MOST_BLOCKS {
        return Err(BlobError::new(400, "BlockListTooLong", "The block list may not contain more than 50,000 blocks."));
    }
    Ok(committed(&service.blobs.commit(call.blob(), &list, service.clock.now())?))
}

async fn receive(service: &Service, body: Body) -> Result<super::blobs::Segment, BlobError> {
    let pace = service.link.open(Direction::Up);
    service.blobs.receive(body, pace, &service.stats.bytes_up).await.map_err(|error| BlobError::disk(&error))
}

fn check_blob(call: &Call) -> Result<(), BlobError> {
    match call.header("x-ms-blob-type") {
        None => return Err(BlobError::new(400, "MissingRequiredHeader", "The header x-ms-blob-type is missing.")),
        Some("BlockBlob") => {}
        Some(_) => return Err(BlobError::new(400, "InvalidHeaderValue", "The fake stores block blobs only.")),
    }
    limit(length(call)?, LARGEST_BLOB)
}

fn check_block(call: &Call) -> Result<(), BlobError> {
    let id = call.query("blockid").unwrap_or_default();
    if id.len() != BLOCK_ID || STANDARD.decode(id).is_err() {
        let message = "The block id is not base64 of 48 bytes (64 characters).";
        return Err(BlobError::new(400, "InvalidQueryParameterValue", message));
    }
    let length = length(call)?;
    if length == 0 {
        return Err(BlobError::new(400, "InvalidHeaderValue", "A block cannot be empty."));
    }
    limit(length, LARGEST_BLOCK)
}

fn length(call: &Call) -> Result<u64, BlobError> {
    call.header("content-length")
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| BlobError::new(411, "MissingContentLengthHeader", "The header Content-Length is missing."))
}

fn limit(length: u64, most: u64) -> Result<(), BlobError> {
    if length <= most {
        return Ok(());
    }
    Err(BlobError::new(413, "RequestBodyTooLarge", &format!("The body may have {most} bytes at most.")))
}

fn created() -> axum::http::response::Builder {
    Response::builder().status(StatusCode::CREATED).header("x-ms-request-server-encrypted", "true")
}

fn committed(content: &Content) -> Response {
    created()
        .header("etag", &content.etag)
        .header("last-modified", http_date(content.modified))
        .body(Body::empty())
        .expect("the headers are plain text")
}

fn invalid_xml() -> BlobError {
    BlobError::new(400, "InvalidXmlDocument", "The body is not a block list.")
}

/// The blocks of a `<BlockList>`; none if `xml` is something else. Block ids are base64, so nothing in them is escaped.
fn parse_list(xml: &str) -> Option<Vec<Listed<'_>>> {
    let start = xml.find("<BlockList>")? + "<BlockList>".len();
    let mut rest = xml[start..xml.find("</BlockList>")?].trim_start();
    let mut list = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = rest.strip_prefix('<')?.split_once('>')?;
        let (id, after) = after.split_once("</")?;
        let id = id.trim();
        list.push(match tag {
            "Latest" => Listed::Latest(id),
            "Uncommitted" => Listed::Uncommitted(id),
            "Committed" => Listed::Committed(id),
            _ => return None,
        });
        rest = after.strip_prefix(tag)?.strip_prefix('>')?.trim_start();
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lists_are_read() {
        let xml =
            "<?xml version=\"1.0\"?>\n<BlockList>\n <Latest>QQ==</Latest><Committed>Qg==</Committed>\n</BlockList>";
        assert_eq!(parse_list(xml), Some(vec![Listed::Latest("QQ=="), Listed::Committed("Qg==")]));
        assert_eq!(parse_list("<BlockList></BlockList>"), Some(Vec::new()));
        assert_eq!(parse_list("<BlockList><Newest>QQ==</Newest></BlockList>"), None);
        assert_eq!(parse_list("<BlockList><Latest>QQ==</Committed></BlockList>"), None);
        assert_eq!(parse_list("hello"), None);
    }
}
