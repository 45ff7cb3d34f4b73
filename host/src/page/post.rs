//! Answering a page without a browser, for a verb that has asked at the terminal.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use zeroize::Zeroizing;

use super::form;

/// How long the page may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of the page's answer, of which one line is needed.
const MAX_ANSWER: u64 = 64 << 10;

/// Sends an answer, a text per field, to the page at `url`, which must be one on this machine. `false`: it was not taken.
pub fn post(url: &str, texts: &[Zeroizing<String>]) -> io::Result<bool> {
    let (host, path) = place(url).ok_or_else(|| io::Error::other("the question is not asked on this machine"))?;
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    for (index, text) in texts.iter().enumerate() {
        fields.append_pair(&form::name(index), text);
    }
    let body = Zeroizing::new(fields.finish());
    let request = Zeroizing::new(format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{}",
        body.len(),
        body.as_str()
    ));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// `127.0.0.1:PORT` and the path.
fn place(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let port = host.strip_prefix("127.0.0.1:")?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
    (port.parse::<u16>().is_ok() && is_plain(path)).then_some((host, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_on_this_machine_gets_an_answer() {
        assert_eq!(place("http://127.0.0.1:4711/0a1b"), Some(("127.0.0.1:4711", "/0a1b")));
        for elsewhere in [
            "https://127.0.0.1:4711/0a1b",
            "http://192.0.2.1:4711/0a1b",
            "http://127.0.0.1.example:80/0a1b",
            "http://127.0.0.1:4711@example/0a1b",
            "http://127.0.0.1:4711",
            "http://127.0.0.1:4711/0a1b\r\nX: y",
        ] {
            assert_eq!(place(elsewhere), None, "{elsewhere:?}");
        }
    }
}
