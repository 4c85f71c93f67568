use std::fs;

use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;

struct Site {
    folder: TempDir,
    files: Files,
}

/// A folder with a page, a text, hidden things, and beside it a secret.
fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir_all(shared.join("sub")).unwrap();
    fs::create_dir_all(shared.join(".git")).unwrap();
    fs::create_dir_all(shared.join("empty")).unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    fs::write(shared.join("index.html"), "<h1>home</h1>").unwrap();
    fs::write(shared.join("ten.txt"), "0123456789").unwrap();
    fs::write(shared.join(".env"), "secret").unwrap();
    fs::write(shared.join(".git/config"), "secret").unwrap();
    fs::write(shared.join("sub/B.bin"), vec![0; 2048]).unwrap();
    fs::write(shared.join("sub/a & b.txt"), "x").unwrap();
    fs::create_dir(shared.join("sub/zoo")).unwrap();
    let files = Files::folder(&shared.canonicalize().unwrap());
    Site { folder, files }
}

impl Site {
    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.files, method, path, headers).await
    }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(files: &Files, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = files.clone().answer(request.body(()).unwrap()).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into(),
    }
}

#[tokio::test]
async fn a_file_comes_with_its_type_and_length() {
    let answer = site().get("/ten.txt").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "0123456789"));
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("content-length"), "10");
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.header("last-modified").is_empty());
}

#[tokio::test]
async fn types_follow_the_name() {
    let site = site();
    for (name, expected) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.wasm", "application/wasm"),
        ("a.mp4", "video/mp4"),
        ("README", "application/octet-stream"),
    ] {
        fs::write(site.folder.path().join("shared").join(name), "x").unwrap();
        assert_eq!(site.get(&format!("/{name}")).await.header("content-type"), expected);
    }
}

#[tokio::test]
async fn ranges_are_answered() {
    let site = site();
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=0-999", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=10-12", 416, "bytes */10", ""),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
    ] {
        let answer = site.ask("GET", "/ten.txt", &[("range", range)]).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{range}");
        assert_eq!(answer.header("content-range"), content_range, "{range}");
    }
}

#[tokio::test]
async fn a_range_of_another_version_is_not_sent() {
    let site = site();
    let current = site.get("/ten.txt").await;
    let modified = current.header("last-modified");
    let resumed = site.ask("GET", "/ten.txt", &[("range", "bytes=5-"), ("if-range", modified)]).await;
    assert_eq!((resumed.status, resumed.body.as_str()), (206, "56789"));
    let old = "Thu, 01 Jan 1970 00:00:00 GMT";
    for other in [old, "\"another\"", "W/\"another\""] {
        let whole = site.ask("GET", "/ten.txt", &[("range", "bytes=5-"), ("if-range", other)]).await;
        assert_eq!((whole.status, whole.body.as_str()), (200, "0123456789"), "{other}");
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let site = site();
    let first = site.get("/ten.txt").await;
    assert_eq!(first.header("cache-control"), "no-cache");
    let modified = first.header("last-modified");
    let again = site.ask("GET", "/ten.txt", &[("if-modified-since", modified)]).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let older = "Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(site.ask("GET", "/ten.txt", &[("if-modified-since", older)]).await.status, 200);
}

#[tokio::test]
async fn head_has_everything_but_the_body() {
    let answer = site().ask("HEAD", "/ten.txt", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), "10");
}

#[tokio::test]
async fn other_methods_are_refused() {
    let site = site();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = site.ask(method, "/ten.txt", &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn nothing_outside_and_nothing_hidden_exists() {
    let site = site();
    for path in [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/sub/../../secret.txt",
        "/..%5csecret.txt",
        "/%00",
        "//etc/passwd",
        "/.env",
        "/%2eenv",
        "/.git/",
        "/.git/config",
        "/missing.txt",
        "/ten.txt/",
        "/ten.txt/more",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.body.contains("secret") && !answer.body.contains("root:"), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_inside_or_nowhere() {
    use std::os::unix::fs::symlink;

    let site = site();
    let shared = site.folder.path().join("shared");
    symlink(site.folder.path().join("secret.txt"), shared.join("sub/out.txt")).unwrap();
    symlink(site.folder.path(), shared.join("sub/up")).unwrap();
    symlink(shared.join(".env"), shared.join("sub/env.txt")).unwrap();
    symlink("../ten.txt", shared.join("sub/ten.txt")).unwrap();
    symlink("loop", shared.join("sub/loop")).unwrap();

    for path in ["/sub/out.txt", "/sub/up/secret.txt", "/sub/up/", "/sub/env.txt", "/sub/loop"] {
        let answer = site.get(path).await;
        assert_ne!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("secret"), "{path}");
    }
    assert_eq!(site.get("/sub/ten.txt").await.body, "0123456789");

    let listing = site.get("/sub/").await.body;
    for hidden in ["out.txt", "up/", "env.txt", "loop"] {
        assert!(!listing.contains(hidden), "{hidden} is listed:\n{listing}");
    }
    assert!(listing.contains("ten.txt"));
}

#[cfg(unix)]
#[tokio::test]
async fn an_index_that_leads_outside_is_no_index() {
    let site = site();
    let link = site.folder.path().join("shared/empty/index.html");
    std::os::unix::fs::symlink(site.folder.path().join("secret.txt"), link).unwrap();
    let answer = site.get("/empty/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("This folder is empty") && !answer.body.contains("secret"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_in_the_folder_blocks_nobody() {
    let site = site();
    let fifo = site.folder.path().join("shared/sub/fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert_eq!(site.get("/sub/fifo").await.status, 404);
    assert!(!site.get("/sub/").await.body.contains("fifo"));
}

#[tokio::test]
async fn a_folder_shows_its_index_or_a_listing() {
    let site = site();
    let home = site.get("/").await;
    assert_eq!(home.body, "<h1>home</h1>");
    assert_eq!(home.header("content-type"), "text/html; charset=utf-8");

    let listing = site.get("/sub/").await;
    assert_eq!(listing.header("content-type"), "text/html; charset=utf-8");
    assert!(listing.header("content-security-policy").contains("default-src 'none'"));
    let at = |text: &str| listing.body.find(text).unwrap_or_else(|| panic!("{text} in {}", listing.body));
    assert!(at("zoo/</a>") < at("a &amp; b.txt</a>"), "folders come first");
    assert!(at("a &amp; b.txt</a>") < at("B.bin</a>"), "then names, whatever their case");
    assert!(at("./a%20%26%20b.txt") > 0 && at("2.0 KiB") > 0 && at("href=\"../\"") > 0);
}

#[tokio::test]
async fn a_folder_without_its_slash_is_sent_there_relatively() {
    let site = site();
    let answer = site.get("/sub?x=1").await;
    assert_eq!((answer.status, answer.header("location")), (308, "./sub/?x=1"));
    // A browser must not read this as the host `sub`.
    assert_eq!(site.get("//sub").await.header("location"), "./sub/");
}

#[tokio::test]
async fn a_shared_file_is_all_there_is() {
    let site = site();
    let path = site.folder.path().join("secret.txt").canonicalize().unwrap();
    let files = Files::file(&path);
    let root = ask(&files, "GET", "/", &[]).await;
    assert_eq!((root.status, root.body.as_str()), (200, "secret"));
    assert_eq!(root.header("content-disposition"), "inline; filename*=UTF-8''secret.txt");
    let named = ask(&files, "GET", "/secret.txt", &[("range", "bytes=1-2")]).await;
    assert_eq!((named.status, named.body.as_str()), (206, "ec"));
    for path in ["/shared/ten.txt", "/secret", "/..", "/secret.txt/x"] {
        assert_eq!(ask(&files, "GET", path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_folder_that_went_away_is_not_found() {
    let site = site();
    fs::remove_dir_all(site.folder.path().join("shared")).unwrap();
    assert_eq!(site.get("/").await.status, 404);
}
