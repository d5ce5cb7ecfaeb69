//! What another site makes a browser send, and what names another host: refused before it is read.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::refuse;
use crate::rpc::{Kind, RpcError};
use crate::server::http::{NO_JSON_TYPE, SEC_FETCH_SITE, has_json};

/// Refuses what another site makes a browser send, and what names another host.
pub(super) async fn refuse_others(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let forbidden = |problem| (StatusCode::FORBIDDEN, RpcError::new(Kind::InvalidRequest, problem));
    let refused = match host(&request) {
        None => Some(forbidden("the header host must name 127.0.0.1, [::1] or localhost")),
        Some(host) if !is_of_origin(headers, host) => {
            Some(forbidden("a page of another origin may not call this server"))
        }
        Some(_) if !is_of_site(&request) => Some(forbidden("a page of another site may not call this server")),
        Some(_) if request.method() == Method::POST && !has_json(headers) => {
            Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, RpcError::new(Kind::InvalidRequest, NO_JSON_TYPE)))
        }
        Some(_) => None,
    };
    match refused {
        Some((status, error)) => refuse(status, &error),
        None => next.run(request).await,
    }
}

/// The one `Host` of a request, if it names this machine, on any port: `ssh -L` has another port.
///
/// A name that is not one of these may belong to a site that has let it lead here.
fn host(request: &Request) -> Option<&str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None, None) = (hosts.next(), hosts.next(), request.uri().authority()) else { return None };
    let host = host.to_str().ok()?;
    let port = ["127.0.0.1", "[::1]", "localhost"].into_iter().find_map(|name| {
        let (start, rest) = host.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(rest)
    })?;
    let is_port = port.strip_prefix(':').is_none_or(|port| port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')));
    ((port.is_empty() || port.starts_with(':')) && is_port).then_some(host)
}

/// Whether each `Origin` is the one that the page has on `host`.
fn is_of_origin(headers: &HeaderMap, host: &str) -> bool {
    let own = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host));
    headers.get_all(header::ORIGIN).iter().all(own)
}

/// Whether the page itself sent a request, or an address bar did.
///
/// Another site, or the file that hands the link over, may lead a tab to the page: there is nothing in it to be read.
fn is_of_site(request: &Request) -> bool {
    let all = |name: HeaderName, values: &[&str]| {
        let mut found = request.headers().get_all(name).iter();
        found.all(|value| value.to_str().is_ok_and(|value| values.contains(&value)))
    };
    let has = |name: &'static str, value: &str| {
        request.headers().contains_key(name) && all(HeaderName::from_static(name), &[value])
    };
    let leads_here = request.method() == Method::GET
        && request.uri().path() == "/"
        && has("sec-fetch-mode", "navigate")
        && has("sec-fetch-dest", "document");
    leads_here || all(SEC_FETCH_SITE, &["same-origin", "none"])
}
