//! The files of the page for admins, and the headers that they are served with.
//!
//! `hero_proc_cleanup page` serves them on loopback. A host mounts them under a prefix of its own: each of [`FILES`] at
//! `<prefix>/<name>`, `index.html` also at `<prefix>/`, and [`HEADERS`] on every answer. All addresses in the files are
//! relative. The page posts its calls to `<prefix>/rpc`, which the host answers by
//! [`Forwarder::call`](crate::gateway::Forwarder::call) behind its own check of admins.
//!
//! A host that knows its users by a cookie must refuse requests of other sites: see `docs/page.md`.

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct File {
    /// The last part of its address.
    pub name: &'static str,
    /// The value of the header `content-type`.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

macro_rules! file {
    ($name:literal, $content_type:literal) => {
        File {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/page/", $name)),
        }
    };
}

/// All files of the page.
pub static FILES: &[File] = &[
    file!("index.html", "text/html; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("main.js", "text/javascript; charset=utf-8"),
    file!("batches.js", "text/javascript; charset=utf-8"),
    file!("dom.js", "text/javascript; charset=utf-8"),
    file!("filter.js", "text/javascript; charset=utf-8"),
    file!("format.js", "text/javascript; charset=utf-8"),
    file!("report.js", "text/javascript; charset=utf-8"),
    file!("retention.js", "text/javascript; charset=utf-8"),
    file!("rpc.js", "text/javascript; charset=utf-8"),
    file!("store.js", "text/javascript; charset=utf-8"),
    file!("timeline.js", "text/javascript; charset=utf-8"),
    file!("usage.js", "text/javascript; charset=utf-8"),
    file!("words.js", "text/javascript; charset=utf-8"),
];

/// The headers of every answer: nothing but the page's own files and calls is loaded, no other page frames or reads them,
/// and no cache keeps them.
pub const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// The file at `path`, the part of an address behind `<prefix>/`; an empty path is that of `index.html`.
#[must_use]
pub fn file(path: &str) -> Option<&'static File> {
    let name = if path.is_empty() { "index.html" } else { path };
    FILES.iter().find(|file| file.name == name)
}

/// Where `<prefix>` redirects to, as relative addresses need the slash at its end: `mounted`, the path that this server
/// knows, behind `forwarded_prefix`, the header `X-Forwarded-Prefix` of a proxy that strips a part of the path.
///
/// A header that is no plain path is left out, so that none leads to another host.
#[must_use]
pub fn with_slash(mounted: &str, forwarded_prefix: Option<&str>) -> String {
    let plain = |prefix: &&str| {
        let char = |char: char| char.is_ascii_alphanumeric() || "/-._~".contains(char);
        prefix.starts_with('/') && !prefix.contains("//") && prefix.chars().all(char)
    };
    let prefix = forwarded_prefix.filter(plain).unwrap_or_default();
    format!("{}/{}/", prefix.trim_end_matches('/'), mounted.trim_matches('/'))
}
