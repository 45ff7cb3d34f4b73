//! One line of `ssh_config` as a keyword and its arguments: quotes, escapes, `=`, comments. Pure.

/// The keyword in small letters and its arguments. `None` for an empty line or a comment.
pub fn split(line: &str) -> Result<Option<(String, Vec<String>)>, &'static str> {
    let line = line.trim_matches([' ', '\t', '\r', '\u{c}']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    // One `=` may stand between the keyword and what it says.
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let arguments = arguments(rest)?;
    if arguments.is_empty() {
        return Err("the keyword has no argument");
    }
    Ok(Some((keyword.trim_matches('"').to_ascii_lowercase(), arguments)))
}

fn arguments(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(char) = chars.next() {
            match (char, quote) {
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(char),
                (_, Some(open)) if char == open => quote = None,
                ('\\', _) => {
                    match chars.next_if(|next| matches!(next, '"' | '\'' | '\\') || (*next == ' ' && quote.is_none())) {
                        Some(escaped) => word.push(escaped),
                        None => word.push('\\'),
                    }
                }
                _ => word.push(char),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed");
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_keyword_and_its_arguments() {
        let check = |line: &str, expected: Option<(&str, &[&str])>| {
            let found = split(line).unwrap();
            let expected = expected.map(|(keyword, arguments)| {
                (keyword.to_owned(), arguments.iter().map(|argument| (*argument).to_owned()).collect())
            });
            assert_eq!(found, expected, "{line:?}");
        };
        check("", None);
        check("   # a comment", None);
        check("Host a b", Some(("host", &["a", "b"])));
        check("\tHostName=example.org\r", Some(("hostname", &["example.org"])));
        check("Port = 22", Some(("port", &["22"])));
        check("User ada # who else", Some(("user", &["ada"])));
        check("User ada#1", Some(("user", &["ada#1"])));
        check(r#"IdentityFile "/a b/c" '/d e'"#, Some(("identityfile", &["/a b/c", "/d e"])));
        check(r"IdentityFile /a\ b\\c\d", Some(("identityfile", &[r"/a b\c\d"])));
        assert!(split("User \"ada").is_err());
        assert!(split("User").is_err());
    }
}
