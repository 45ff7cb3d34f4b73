//! A page as a browser meets it, and as a website or another program of the machine does.

use std::sync::Mutex;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::*;

type Taken = Arc<Mutex<Vec<Vec<String>>>>;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

fn page(life: Duration) -> (Page, Taken) {
    let taken = Taken::default();
    let keep = Arc::clone(&taken);
    let take: Take = Box::new(move |texts: Vec<Zeroizing<String>>| {
        keep.lock().unwrap().push(texts.iter().map(|text| text.to_string()).collect());
        std::future::ready(true).boxed()
    });
    let field = |label: &str| Field { label: label.to_owned(), hidden: true };
    let fields = vec![field("Password: "), field("<b>Code</b>: ")];
    let form = Form { title: "web asks".to_owned(), about: vec!["ada@192.0.2.1:22".to_owned()], fields };
    (Page::open(form, life, take).unwrap(), taken)
}

fn open() -> (Page, Taken) {
    page(Duration::from_secs(60))
}

fn host(page: &Page) -> String {
    page.url().trim_start_matches("http://").split('/').next().unwrap().to_owned()
}

fn path(page: &Page) -> String {
    page.url().split_once(&host(page)).unwrap().1.to_owned()
}

/// Sends these bytes to the page and reads what comes back.
async fn raw(host: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let mut answer = Vec::new();
    // A refusal before the end of a request may cut the connection behind it.
    let _ = stream.write_all(request).await;
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(page: &Page, host_header: &str, path: &str) -> String {
    raw(&host(page), format!("GET {path} HTTP/1.1\r\nHost: {host_header}\r\n\r\n").as_bytes()).await
}

async fn send(page: &Page, headers: &str, body: &str) -> String {
    let (path, host) = (path(page), host(page));
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    raw(&host, request.as_bytes()).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_person_sees_the_form_answers_once_and_may_close_the_page() {
    let (page, taken) = open();
    let shown = get(&page, &host(&page), &path(&page)).await;
    assert_eq!(status(&shown), "200");
    for expected in ["web asks", "ada@192.0.2.1:22", "Password: ", "&lt;b&gt;Code&lt;/b&gt;", "<form method=\"post\""] {
        assert!(shown.contains(expected), "{expected:?} is not in {shown}");
    }
    let lower = shown.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        "cache-control: no-store",
        "referrer-policy: same-origin",
        "x-content-type-options: nosniff",
    ] {
        assert!(lower.contains(header), "{header:?} is not in {shown}");
    }
    assert!(page.is_open());
    let origin = format!("Origin: http://{}\r\n{FORM}", host(&page));
    let thanks = send(&page, &origin, "answer0=right&answer1=12+34%2656").await;
    assert!(status(&thanks) == "200" && thanks.contains("You can close this page"), "{thanks}");
    assert_eq!(page.ended().await, End::Answered);
    assert_eq!(*taken.lock().unwrap(), [["right", "12 34&56"]]);
}

#[tokio::test]
async fn a_second_answer_is_refused_while_the_first_is_being_taken() {
    let (entered, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (inside, outside) = (Arc::clone(&entered), Arc::clone(&go));
    let take: Take = Box::new(move |_| {
        async move {
            inside.notify_one();
            outside.notified().await;
            true
        }
        .boxed()
    });
    let fields = vec![Field { label: "Code: ".to_owned(), hidden: true }];
    let form = Form { title: "web asks".to_owned(), about: Vec::new(), fields };
    let page = Page::open(form, Duration::from_secs(60), take).unwrap();
    let first = send(&page, FORM, "answer0=1");
    let others = async {
        entered.notified().await;
        assert_eq!(status(&send(&page, FORM, "answer0=2").await), "410");
        assert_eq!(status(&get(&page, &host(&page), &path(&page)).await), "410");
        go.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(status(&first), "200");
    assert_eq!(page.ended().await, End::Answered);
}

#[tokio::test]
async fn nobody_else_sees_the_form_or_answers_it() {
    let (page, taken) = open();
    // A website whose name was made to lead to this machine, and one without a name.
    for name in ["evil.example", &format!("localhost:{}", host(&page).split(':').nth(1).unwrap()), "127.0.0.1"] {
        assert_eq!(status(&get(&page, name, &path(&page)).await), "421", "{name}");
    }
    let (own, own_path) = (host(&page), path(&page));
    let twice = format!("GET {own_path} HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n");
    assert_ne!(status(&raw(&own, twice.as_bytes()).await), "200");
    for path in ["/", "/0123456789abcdef0123456789abcdef", "/favicon.ico"] {
        let answer = get(&page, &own, path).await;
        assert!(status(&answer) == "404" && !answer.contains("ada"), "{answer}");
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1:1"] {
        let answer = send(&page, &format!("Origin: {origin}\r\n{FORM}"), "answer0=a&answer1=b").await;
        assert_eq!(status(&answer), "403", "{origin}");
    }
    assert_eq!(status(&send(&page, "Content-Type: text/plain\r\n", "answer0=a&answer1=b").await), "415");
    assert_eq!(status(&send(&page, FORM, "answer0=only").await), "400");
    let put = format!("PUT {own_path} HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status(&raw(&own, put.as_bytes()).await), "405");
    assert!(page.is_open() && taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let (page, taken) = open();
    let long = format!("answer0=a&answer1={}", "x".repeat(64 << 10));
    assert_ne!(status(&send(&page, FORM, &long).await), "200");
    let head = format!("GET {} HTTP/1.1\r\nX: {}\r\n\r\n", path(&page), "x".repeat(64 << 10));
    assert_ne!(status(&raw(&host(&page), head.as_bytes()).await), "200");
    assert!(page.is_open() && taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_person_may_say_no_and_a_page_ends_with_its_time_or_its_owner() {
    let (page_, taken) = open();
    let answer = send(&page_, FORM, "answer0=&answer1=&cancel=yes").await;
    assert!(answer.contains("Nothing was answered"), "{answer}");
    assert_eq!(page_.ended().await, End::Unanswered);
    let (short, _) = page(Duration::from_millis(20));
    assert_eq!(short.ended().await, End::Unanswered);
    let (closed, _) = open();
    closed.close();
    assert_eq!(closed.ended().await, End::Unanswered);
    let (dropped, _) = open();
    let address = host(&dropped);
    drop(dropped);
    let gone = async {
        while TcpStream::connect(&address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("the page outlived its owner");
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_verb_answers_as_a_browser_does() {
    let (page, taken) = open();
    let url = page.url();
    let texts = ["p w", "1&2=3"].map(|text| Zeroizing::new(text.to_owned()));
    assert!(tokio::task::spawn_blocking(move || post(&url, &texts)).await.unwrap().unwrap());
    assert_eq!(page.ended().await, End::Answered);
    assert_eq!(*taken.lock().unwrap(), [["p w", "1&2=3"]]);
}
