//! Tests of the output spool: what is shown, what is kept, how it is read again.

use super::*;
use crate::call::JobId;

const ID: JobId = JobId(9);

fn spool(directory: &tempfile::TempDir) -> Spool {
    Spool::new(directory.path(), ID)
}

#[test]
fn what_is_shown_is_plain_text() {
    let check = |bytes: &[u8], expected: &str| assert_eq!(clean(bytes), expected, "{bytes:?}");
    check(b"plain\ttext\n", "plain\ttext\n");
    check("größer ✓".as_bytes(), "größer ✓");
    check(b"a\xffb\xc3", "a\u{fffd}b\u{fffd}");
    check(b"\x1b[1;31mred\x1b[0m \x1b[38;5;12mx\x1b[K", "red x");
    check(b"\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "text link");
    check(b"\x1b(Bx\x1b=y\x1b7z", "xyz");
    check(b"a\r\nb\rc\r", "a\nb\nc\n");
    check(b"bell\x07 nul\0 del\x7f", "bell\\x07 nul\\x00 del\\x7f");
    check("\u{9b}31m \u{202e}evil".as_bytes(), "\\u{9b}31m \\u{202e}evil");
    // A sequence that is cut off or broken hides nothing of what follows.
    check(b"x\x1b[31", "x");
    check(b"x\x1b[3\ny", "x\ny");
    check(b"x\x1b]lost end\nnext line", "x\nnext line");
    check(b"x\x1b\x1b[1my", "xy");
}

#[test]
fn a_cut_never_splits_a_character() {
    let text = "aä€😀".repeat(50);
    let bytes = text.as_bytes();
    for limit in 0..text.chars().count() + 2 {
        let head = show::head(bytes, limit);
        let tail = show::tail(bytes, limit);
        let head = std::str::from_utf8(&bytes[..head]).unwrap();
        let tail = std::str::from_utf8(&bytes[bytes.len() - tail..]).unwrap();
        let expected = limit.min(text.chars().count());
        assert_eq!((head.chars().count(), tail.chars().count()), (expected, expected), "{limit}");
    }
    for at in 0..=bytes.len() {
        assert!(text.is_char_boundary(show::boundary(bytes, at)));
    }
}

#[test]
fn bytes_that_grow_when_shown_still_fit() {
    let bytes = [0x01; 1000];
    let head = show::head(&bytes, 100);
    assert_eq!(clean(&bytes[..head]).chars().count(), 100);
    let tail = show::tail(&bytes, 101);
    assert_eq!(clean(&bytes[1000 - tail..]).chars().count(), 100);
}

#[tokio::test]
async fn a_long_output_is_shown_by_both_ends_and_the_marker_is_true() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let text: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
    for part in text.as_bytes().chunks(7_777) {
        spool.write(Stream::Stdout, part).await;
    }
    spool.write(Stream::Stderr, b"short").await;
    let shown = spool.output().render(2_000).await.unwrap();
    assert_eq!(shown.stderr, Shown { text: "short".to_owned(), omitted: 0 });
    let shown = shown.stdout;
    assert!(shown.text.chars().count() < 2_200);
    let (head, rest) = shown.text.split_once("[… ").unwrap();
    let (marker, tail) = rest.split_once(" …]\n").unwrap();
    assert!(text.starts_with(head) && text.ends_with(tail) && head.ends_with('\n'));
    assert_eq!(shown.omitted as usize, text.len() - head.len() - tail.len());
    let expected = format!(
        "{} bytes left out; read them with task_output (id {ID}, stream stdout, offset {})",
        shown.omitted,
        head.len()
    );
    assert_eq!(marker, expected);
}

#[tokio::test]
async fn a_small_output_stays_out_of_files_and_a_large_one_is_kept_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let large: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    spool.write(Stream::Stderr, b"small").await;
    for part in large.chunks(1_000) {
        spool.write(Stream::Stdout, part).await;
    }
    let kept = spool.finish().await;
    assert_eq!(kept.inline, [(Stream::Stderr, b"small".to_vec())]);
    assert_eq!(kept.counts.stdout, StreamCounts { total: 300_000, kept: 300_000 });
    let path = directory.path().join(file_name(ID, Stream::Stdout));
    assert_eq!(std::fs::read(&path).unwrap(), large);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!directory.path().join(file_name(ID, Stream::Stderr)).exists());
    assert_eq!(parse_file_name(&file_name(ID, Stream::Stdout)), Some(ID));
    assert_eq!(parse_file_name("notes.txt"), None);
}

#[tokio::test]
async fn past_the_limit_output_is_counted_but_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let block = vec![b'x'; 1 << 20];
    for _ in 0..65 {
        spool.write(Stream::Stdout, &block).await;
    }
    let counts = spool.finish().await.counts.stdout;
    assert_eq!(counts, StreamCounts { total: 65 << 20, kept: KEPT_LIMIT });
    let shown = spool.output().render_stream(Stream::Stdout, 100).await.unwrap();
    assert!(shown.text.ends_with("[1048576 more bytes were printed but not kept]\n"), "{}", shown.text);
}

#[tokio::test]
async fn a_directory_that_is_gone_costs_the_output_and_not_the_job() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::new(&directory.path().join("gone"), ID);
    for _ in 0..5 {
        spool.write(Stream::Stdout, &[b'x'; 50_000]).await;
    }
    let kept = spool.finish().await;
    assert_eq!(kept.counts.stdout, StreamCounts { total: 250_000, kept: MEMORY_LIMIT as u64 });
    assert_eq!(kept.inline.len(), 1);
}

#[tokio::test]
async fn pages_join_to_the_whole_and_split_no_character() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let text = "aä€😀\n".repeat(20_000);
    spool.write(Stream::Stdout, text.as_bytes()).await;
    for limit in [5, 4_096, 100_000] {
        let output = spool.output();
        let (mut joined, mut next) = (String::new(), Some(0));
        let mut pages = 0;
        while let Some(offset) = next
            && pages < 100
        {
            let page = output.page(Stream::Stdout, offset, limit).await.unwrap();
            assert_eq!(page.offset, offset);
            joined.push_str(&page.text);
            next = page.next;
            pages += 1;
        }
        assert!(text.starts_with(&joined), "{limit}");
        assert!(pages == 100 || joined == text, "{limit}");
    }
    let beyond = spool.output().page(Stream::Stdout, u64::MAX, 10).await.unwrap();
    assert_eq!((beyond.text.as_str(), beyond.next, beyond.offset), ("", None, text.len() as u64));
}

#[tokio::test]
async fn the_last_lines_and_the_matching_ones_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let text: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    spool.write(Stream::Stdout, text.as_bytes()).await;
    spool.finish().await;
    let output = spool.output();
    let tail = async |lines, limit| output.tail(Stream::Stdout, lines, limit).await.unwrap().text;
    assert_eq!(tail(2, 1000).await, "line 49998\nline 49999\n");
    assert_eq!(tail(0, 1000).await, "");
    assert_eq!(tail(1000, 25).await, "line 49998\nline 49999\n");
    let matches = output.grep(Stream::Stdout, "9999$", 0, 2).await.unwrap();
    let texts: Vec<_> = matches.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["line 9999", "line 19999"]);
    let offset = matches.lines[1].offset as usize;
    assert!(text[offset..].starts_with("line 19999\n"));
    let rest = output.grep(Stream::Stdout, "9999$", matches.next.unwrap(), 10).await.unwrap();
    assert_eq!((rest.lines.len(), rest.next), (3, None));
    let error = output.grep(Stream::Stdout, "(", 0, 1).await.unwrap_err();
    assert_eq!(error.code, crate::error::Code::InvalidArgument);
    assert_eq!(output.grep(Stream::Stderr, ".", 0, 1).await.unwrap(), Matches { lines: Vec::new(), next: None });
}

#[tokio::test]
async fn a_part_is_shown_like_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(&directory);
    let numbers: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    for text in ["first\n", &numbers, "é\n"] {
        spool.write(Stream::Stdout, text.as_bytes()).await;
    }
    let output = spool.output();
    let end = 6 + numbers.len() as u64;
    let part = |part, limit| output.render_part(Stream::Stdout, part, limit);
    assert_eq!(part(0..6, 100).await.unwrap().text, "first\n");
    assert_eq!(part(0..1, 100).await.unwrap(), Shown { text: "f".to_owned(), omitted: 0 });
    assert_eq!(part(end..end + 100, 100).await.unwrap().text, "é\n");
    assert_eq!(part(5..5, 100).await.unwrap(), Shown::default());
    let cut = part(6..end, 100).await.unwrap();
    assert!(cut.text.starts_with("0\n1\n") && cut.text.ends_with("29999\n"), "{}", cut.text);
    let offset: u64 = cut.text.split("offset ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    let next = output.page(Stream::Stdout, offset, 10).await.unwrap().text;
    let before = cut.text.lines().take_while(|line| !line.starts_with('[')).last().unwrap();
    let expected: u32 = before.parse::<u32>().unwrap() + 1;
    assert!(next.starts_with(&format!("{expected}\n")), "{next:?} behind {before:?}");
}
