use std::collections::BTreeSet;

use axum::body::to_bytes;
use axum::http::{Method, Request};
use tower::ServiceExt as _;

use super::*;

async fn ask(method: Method, path: &str, tag: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let response = router::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

async fn get_page(path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    ask(Method::GET, path, None).await
}

#[tokio::test]
async fn every_answer_says_what_a_page_may_do() {
    let part = format!("/dashboard/{}/app.js", READY.version);
    for path in ["/", &part, "/dashboard/x/app.css", "/dashboard/x/none.js"] {
        let (_, headers, _) = get_page(path).await;
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|found| found == rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin", "{path}");
    }
}

#[tokio::test]
async fn parts_are_kept_for_good_and_the_shell_is_asked_for_again() {
    let (status, headers, page) = get_page("/").await;
    assert_eq!((status, &headers[CACHE_CONTROL]), (StatusCode::OK, &HeaderValue::from_static("no-cache")));
    assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(&format!("/dashboard/{}/app.js", READY.version)) && !page.contains(PLACE));
    for part in PARTS {
        let (status, headers, content) =
            get_page(&format!("/dashboard/{}/{}", READY.version, part.name)).await;
        assert_eq!((status, content.as_slice()), (StatusCode::OK, part.content), "{}", part.name);
        assert!(headers[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        assert_eq!(headers[CONTENT_TYPE], part.kind);
    }
    // A shell of another release must not make browsers keep this release's parts under that one's path.
    let (status, headers, _) = get_page("/dashboard/0123456789abcdef/app.js").await;
    assert_eq!((status, &headers[CACHE_CONTROL]), (StatusCode::OK, &HeaderValue::from_static("no-cache")));
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let (_, headers, _) = get_page("/").await;
    let tag = headers[ETAG].to_str().unwrap().to_owned();
    for same in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let (status, headers, body) = ask(Method::GET, "/", Some(&same)).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{same}");
        assert_eq!(headers[ETAG], tag.as_str());
    }
    let (status, _, body) = ask(Method::GET, "/", Some("\"other\"")).await;
    assert!(status == StatusCode::OK && !body.is_empty());
    let (status, _, body) = ask(Method::HEAD, "/", None).await;
    assert!(status == StatusCode::OK && body.is_empty());
}

#[tokio::test]
async fn no_path_leads_out_of_the_parts() {
    for path in [
        "/dashboard/x/tests.rs",
        "/dashboard/x/index.html",
        "/dashboard/x/..%2f..%2flib.rs",
        "/dashboard/x/%2e%2e%2fdashboard.rs",
        "/dashboard/x/..",
        "/dashboard/x/",
        "/dashboard/../lib.rs",
        "/dashboard/x/app.js%00.css",
        "/dashboard/x/y/app.js",
        "//etc/passwd",
    ] {
        assert_eq!(get_page(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _, _) = ask(Method::POST, "/", None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn every_file_is_a_part_and_every_reference_leads_to_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !matches!(name.as_str(), "index.html" | "tests.rs"))
        .collect();
    let named: BTreeSet<String> = PARTS.iter().map(|part| part.name.to_owned()).collect();
    assert_eq!(files, named);
    let mut loaded: BTreeSet<String> = BTreeSet::new();
    for found in SHELL.split("/dashboard/VERSION/").skip(1) {
        loaded.insert(found.split('"').next().unwrap().to_owned());
    }
    for part in PARTS.iter().filter(|part| part.kind == SCRIPT) {
        for found in std::str::from_utf8(part.content).unwrap().split(" from './").skip(1) {
            let import = found.split('\'').next().unwrap();
            assert!(named.contains(import), "{} imports {import}", part.name);
            // One that the shell does not name is fetched only when its importer was read.
            assert!(loaded.contains(import), "the shell does not preload {import}");
        }
    }
    assert_eq!(loaded, named);
}

#[test]
fn nothing_in_the_files_needs_a_weaker_policy() {
    for part in PARTS.iter().filter(|part| part.kind == SCRIPT) {
        let text = std::str::from_utf8(part.content).unwrap();
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "localStorage",
            "sessionStorage",
        ] {
            assert!(!text.contains(way), "{} has {way}", part.name);
        }
    }
    assert!(!SHELL.contains("<style") && !SHELL.contains("style=") && !SHELL.contains(" on"));
    assert!(SHELL.matches("<script").count() == SHELL.matches("<script type=\"module\" src=").count());
}
