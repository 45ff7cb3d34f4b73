//! What a page asks, and its HTML: no script, nothing from elsewhere, and every text that is not ours escaped.

use serde::{Deserialize, Serialize};

/// Bytes of one answer.
const MAX_ANSWER: usize = 1024;

/// What is asked for. The texts may come from anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Who asks.
    pub title: String,
    /// What there is to know before answering, a paragraph each; line ends count.
    pub about: Vec<String>,
    pub fields: Vec<Field>,
}

/// One line to fill in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub label: String,
    /// What is typed is not shown.
    pub hidden: bool,
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem}\
    h1{font-size:1.3rem}p,label{white-space:pre-wrap;overflow-wrap:anywhere}label{display:block;margin:1rem 0}\
    input{display:block;box-sizing:border-box;width:100%;font:inherit;padding:.4rem}button{font:inherit;margin-right:.5rem}";

impl Form {
    /// The page with the form on it.
    pub fn html(&self) -> String {
        let mut body = format!("<h1>{}</h1>", escape(&self.title));
        for paragraph in &self.about {
            body.push_str(&format!("<p>{}</p>", escape(paragraph)));
        }
        body.push_str("<form method=\"post\" autocomplete=\"off\">");
        for (index, field) in self.fields.iter().enumerate() {
            let kind = match field.hidden {
                true => "type=\"password\" autocomplete=\"one-time-code\"",
                false => "type=\"text\" autocomplete=\"off\"",
            };
            let focus = if index == 0 { " autofocus" } else { "" };
            body.push_str(&format!(
                "<label>{}<input name=\"{}\" {kind} maxlength=\"{MAX_ANSWER}\"{focus}></label>",
                escape(&field.label),
                name(index),
            ));
        }
        body.push_str("<button>Send</button><button name=\"cancel\" value=\"yes\">Do not answer</button></form>");
        document(&self.title, &body)
    }
}

/// The name of a field on the wire.
pub fn name(index: usize) -> String {
    format!("answer{index}")
}

/// A page that only says something.
pub fn note(text: &str) -> String {
    document(text, &format!("<p>{}</p>", escape(text)))
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>",
        escape(title)
    )
}

/// For HTML, between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_server_writes_becomes_a_tag() {
        let evil = "<script>alert('1')</script>\" onfocus=\"x";
        let field = Field { label: evil.to_owned(), hidden: true };
        let html = Form { title: evil.to_owned(), about: vec![evil.to_owned()], fields: vec![field] }.html();
        assert!(!html.contains("<script") && !html.contains("\" onfocus"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onfocus=&quot;x").count(), 4);
    }

    #[test]
    fn what_is_hidden_at_the_server_is_hidden_on_the_page() {
        let field = |label: &str, hidden| Field { label: label.to_owned(), hidden };
        let fields = vec![field("Password: ", true), field("Device: ", false)];
        let html = Form { title: "web".to_owned(), about: Vec::new(), fields }.html();
        assert!(html.contains("Password: <input name=\"answer0\" type=\"password\" autocomplete=\"one-time-code\""));
        assert!(html.contains("Device: <input name=\"answer1\" type=\"text\" autocomplete=\"off\""));
    }
}
