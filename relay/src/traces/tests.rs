use super::*;

fn share(of: f64) -> Share {
    Share::try_from(of).unwrap()
}

#[test]
fn a_share_of_requests_lies_evenly() {
    let count = |of: f64| (0..1000).filter(|&number| share(of).has(number)).count();
    assert_eq!([0.0, 0.001, 0.25, 0.5, 1.0].map(count), [0, 1, 250, 500, 1000]);
    let tenth: Vec<u64> = (0..40).filter(|&number| share(0.1).has(number)).collect();
    assert_eq!(tenth, [9, 19, 29, 39]);
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(Share::try_from(bad).is_err(), "{bad}");
    }
}

fn request(traceparent: Option<&str>) -> Request<()> {
    let request = Request::get("/a?secret=1").header(header::HOST, "demo.tun.test");
    let request = match traceparent {
        Some(parent) => request.header("traceparent", parent),
        None => request,
    };
    request.body(()).unwrap()
}

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[test]
fn only_a_trusted_sender_decides_what_is_traced() {
    // Nobody listens there; nothing waits for it.
    let config = |of| TracesConfig { collector: "http://127.0.0.1:9".to_owned(), share: share(of) };
    let (none, all) =
        (Traces::open(&config(0.0), "relay").unwrap(), Traces::open(&config(1.0), "relay").unwrap());
    let traced =
        |traces: &Traces, parent, trusted: bool| traces.begin(&request(parent), || trusted).is_some();
    assert!(traced(&none, Some(SAMPLED), true) && !traced(&none, Some(SAMPLED), false));
    assert!(!traced(&none, None, true), "there is no word of the sender");
    assert!(!traced(&all, Some(UNSAMPLED), true) && traced(&all, Some(UNSAMPLED), false));
    assert!(traced(&all, Some("nonsense"), true));
    assert!(!Traces::default().is_open() && Traces::default().begin(&request(None), || true).is_none());
}

#[test]
fn what_is_no_url_is_told() {
    let config = TracesConfig { collector: "collector:4318x/".to_owned(), share: Share::default() };
    let opened = Traces::open(&TracesConfig { collector: "no url".to_owned(), ..config }, "relay");
    assert!(opened.unwrap_err().to_string().contains("no url"));
}
