//! The files of the page, embedded in the program.

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A file below the page's address, and what it is.
pub(super) fn part(name: &str) -> Option<(&'static str, &'static [u8])> {
    Some(match name {
        "" => (HTML, include_bytes!("page/index.html")),
        "app.css" => (STYLE, include_bytes!("page/app.css")),
        "api.js" => (SCRIPT, include_bytes!("page/api.js")),
        "app.js" => (SCRIPT, include_bytes!("page/app.js")),
        "detail.js" => (SCRIPT, include_bytes!("page/detail.js")),
        "dom.js" => (SCRIPT, include_bytes!("page/dom.js")),
        "edit.js" => (SCRIPT, include_bytes!("page/edit.js")),
        "format.js" => (SCRIPT, include_bytes!("page/format.js")),
        "list.js" => (SCRIPT, include_bytes!("page/list.js")),
        "signature.js" => (SCRIPT, include_bytes!("page/signature.js")),
        _ => return None,
    })
}
