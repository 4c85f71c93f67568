//! A folder, or one file, as a small web server: ranges, content types, conditional requests, `index.html`, and a
//! listing where there is none.
//!
//! It never shows anything outside of what was shared: names that begin with a dot do not exist, a path that climbs
//! out does not exist, and neither does a link whose goal is not inside the folder. Only `GET` and `HEAD` are
//! answered.

mod listing;
mod path;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_http::services::{ServeFile, fs::ServeFileSystemResponseBody};

pub(crate) type FileBody = Either<ServeFileSystemResponseBody, Full<Bytes>>;

/// What RFC 5987 allows unencoded, as far as it also is in file names.
const EXTENDED_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// A shared folder or file. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Files(Arc<Root>);

#[derive(Debug)]
enum Root {
    Folder(PathBuf),
    File(PathBuf),
}

/// What a request's path leads to.
#[derive(Debug)]
enum Found {
    File {
        path: PathBuf,
        /// The name to save it under, where the URL does not tell.
        name: Option<String>,
    },
    Listing(listing::Listing),
    /// A folder asked for without the slash at the end, on which relative links depend.
    WithoutSlash,
}

impl Files {
    /// `path` is canonical.
    pub(crate) fn folder(path: &Path) -> Self {
        Self(Arc::new(Root::Folder(path.to_owned())))
    }

    /// `path` is canonical.
    pub(crate) fn file(path: &Path) -> Self {
        Self(Arc::new(Root::File(path.to_owned())))
    }

    /// Answers one request; every failure is an answer too.
    pub(crate) async fn answer<B>(self, request: Request<B>) -> Response<FileBody> {
        let request = request.map(drop);
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                page(StatusCode::METHOD_NOT_ALLOWED, listing::message("405 Method Not Allowed"));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let answer = match self.look_up(request.uri().path().to_owned()).await {
            Ok(Found::File { path, name }) => file(&path, name.as_deref(), &request).await,
            Ok(Found::Listing(listing)) => Ok(page(StatusCode::OK, listing.to_html())),
            Ok(Found::WithoutSlash) => Ok(redirect(&request)),
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(|error| failure(&error))
    }

    /// Off the async threads: a folder on a sleeping disk blocks nobody else.
    async fn look_up(self, path: String) -> io::Result<Found> {
        tokio::task::spawn_blocking(move || self.0.look_up(&path)).await.map_err(io::Error::other)?
    }
}

impl Root {
    fn look_up(&self, path: &str) -> io::Result<Found> {
        let names = path::names(path).ok_or(io::ErrorKind::NotFound)?;
        match self {
            Self::Folder(root) => in_folder(root, &names, path),
            Self::File(file) => {
                let name = file.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                match names.as_slice() {
                    [] => Ok(Found::File { path: file.clone(), name }),
                    [asked] if Some(asked) == name.as_ref() => {
                        Ok(Found::File { path: file.clone(), name: None })
                    }
                    _ => Err(io::ErrorKind::NotFound.into()),
                }
            }
        }
    }
}

fn in_folder(root: &Path, names: &[String], path: &str) -> io::Result<Found> {
    let mut asked = root.to_owned();
    asked.extend(names);
    let found = path::inside(root, &asked)?;
    let metadata = fs::metadata(&found)?;
    if metadata.is_file() {
        // `file.txt/` would make the relative links of a page point elsewhere.
        return match path.ends_with('/') {
            false => Ok(Found::File { path: found, name: None }),
            true => Err(io::ErrorKind::NotFound.into()),
        };
    }
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if !path.ends_with('/') {
        return Ok(Found::WithoutSlash);
    }
    match path::inside(root, &found.join("index.html")) {
        Ok(index) if index.is_file() => Ok(Found::File { path: index, name: None }),
        _ => listing::Listing::read(root, &found, names).map(Found::Listing),
    }
}

async fn file(path: &Path, name: Option<&str>, request: &Request<()>) -> io::Result<Response<FileBody>> {
    let mut response = open(path, request.clone()).await?;
    if response.status() == StatusCode::PARTIAL_CONTENT && !range_applies(request, &response) {
        let mut whole = request.clone();
        whole.headers_mut().remove(header::RANGE);
        response = open(path, whole).await?;
    }
    let headers = response.headers_mut();
    if let Some(text) = headers.get(header::CONTENT_TYPE).and_then(with_charset) {
        headers.insert(header::CONTENT_TYPE, text);
    }
    if let Some(disposition) = name.and_then(named) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(finished(response.map(Either::Left)))
}

async fn open(path: &Path, request: Request<()>) -> io::Result<Response<ServeFileSystemResponseBody>> {
    ServeFile::new(path).ignore_multi_range_requests(true).try_call(request).await
}

/// RFC 9110 §13.1.5: with `If-Range`, a range of another version of the file must not be sent.
fn range_applies<B>(request: &Request<()>, response: &Response<B>) -> bool {
    let Some(wanted) = request.headers().get(header::IF_RANGE) else {
        return true;
    };
    [header::ETAG, header::LAST_MODIFIED].iter().any(|name| {
        let current = response.headers().get(name);
        current == Some(wanted) && !wanted.as_bytes().starts_with(b"W/")
    })
}

fn with_charset(content_type: &HeaderValue) -> Option<HeaderValue> {
    let text = content_type.to_str().ok()?;
    if !text.starts_with("text/") || text.contains("charset") {
        return None;
    }
    HeaderValue::from_str(&format!("{text}; charset=utf-8")).ok()
}

fn named(name: &str) -> Option<HeaderValue> {
    let name = utf8_percent_encode(name, EXTENDED_VALUE);
    HeaderValue::from_str(&format!("inline; filename*=UTF-8''{name}")).ok()
}

/// To the same path with a slash at its end. Relative, so that `//host` in a path can lead to no other site.
fn redirect(request: &Request<()>) -> Response<FileBody> {
    let uri = request.uri();
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = page(StatusCode::PERMANENT_REDIRECT, listing::message("308 Permanent Redirect"));
    if let Ok(location) = HeaderValue::from_str(&format!("./{last}/{query}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn failure(error: &io::Error) -> Response<FileBody> {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};

    let kind = error.kind();
    if matches!(kind, NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename) {
        page(StatusCode::NOT_FOUND, listing::message("404 Not Found"))
    } else {
        tracing::debug!(%kind, "a shared file could not be read");
        page(StatusCode::INTERNAL_SERVER_ERROR, listing::message("500 Internal Server Error"))
    }
}

fn page(status: StatusCode, html: String) -> Response<FileBody> {
    let mut response = Response::new(Either::Right(Full::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    finished(response)
}

fn finished(mut response: Response<FileBody>) -> Response<FileBody> {
    let headers = response.headers_mut();
    // What is shared is being worked on: ask each time, and get a 304 when nothing changed.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
