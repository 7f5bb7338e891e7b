//! What is answered to which request.
//!
//! Nothing of a request comes back in an answer.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::registry::WeakMonitor;
use crate::telemetry::exposition::Form;
use crate::telemetry::probes::Probe;
use crate::telemetry::{health_json, metrics};

const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "there is /livez, /readyz and /startupz (?verbose, /readyz/<component>), \
                     /health and /metrics\n";

/// The answer to `request`.
pub(super) fn answer<B>(request: &Request<B>, monitor: &WeakMonitor) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = page(405, TEXT, "only GET and HEAD\n".into());
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let Some(monitor) = monitor.upgrade() else {
        return page(503, TEXT, "the system has ended\n".into());
    };
    let path = request.uri().path().trim_start_matches('/');
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    match (first, rest) {
        ("health", None) => {
            let (status, said) = health_json::system(&monitor);
            page(status, health_json::MEDIA_TYPE, said.to_string() + "\n")
        }
        ("metrics", None) => {
            let form = preferred(request.headers());
            let mut answer = page(200, form.media_type(), metrics::text(&monitor, form));
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
            answer
        }
        (name, component) => {
            let verbose = request.uri().query().is_some_and(is_verbose);
            let said =
                Probe::parse(name).and_then(|probe| probe.answer(&monitor, component, verbose));
            match said {
                Some((yes, text)) => page(if yes { 200 } else { 503 }, TEXT, text),
                None => page(404, TEXT, INDEX.into()),
            }
        }
    }
}

fn page(status: u16, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// `?verbose`, also with a value.
fn is_verbose(query: &str) -> bool {
    query.split('&').any(|part| part.split('=').next() == Some("verbose"))
}

/// OpenMetrics for who asks for it, and likes nothing better.
fn preferred(headers: &HeaderMap) -> Form {
    let (mut open, mut plain) = (0.0_f32, 0.0_f32);
    for said in headers.get_all(header::ACCEPT) {
        for part in said.to_str().unwrap_or("").split(',') {
            let (media, weight) = weighed(part);
            match media.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" => plain = plain.max(weight),
                _ => {}
            }
        }
    }
    if open > 0.0 && open >= plain { Form::OpenMetrics } else { Form::Prometheus }
}

/// One entry of `Accept`, and its weight; 0 for a version of OpenMetrics that we do not write.
fn weighed(part: &str) -> (String, f32) {
    let mut fields = part.split(';').map(str::trim);
    let media = fields.next().unwrap_or("").to_ascii_lowercase();
    let mut weight = 1.0;
    for field in fields {
        match field.split_once('=') {
            Some(("q", value)) => weight = value.trim().parse().unwrap_or(0.0),
            Some(("version", version))
                if media == "application/openmetrics-text"
                    && !matches!(version.trim_matches('"'), "1.0.0" | "0.0.1") =>
            {
                return (media, 0.0);
            }
            _ => {}
        }
    }
    (media, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        preferred(&headers)
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(form(prometheus), Form::OpenMetrics);
        assert_eq!(form("application/openmetrics-text"), Form::OpenMetrics);
        for other in [
            "*/*",
            "text/html",
            "text/plain",
            "text/plain, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=often",
        ] {
            assert_eq!(form(other), Form::Prometheus, "{other}");
        }
        assert_eq!(preferred(&HeaderMap::new()), Form::Prometheus);
    }

    #[test]
    fn verbose_is_a_word_of_its_own() {
        assert!(is_verbose("verbose") && is_verbose("a=1&verbose=true"));
        assert!(!is_verbose("") && !is_verbose("verbosely") && !is_verbose("a=verbose"));
    }
}
