//! Links in the repository's documents lead somewhere. Those to other machines are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::common::{documents, read, root};

/// What a document links to, and what can be linked to in it.
#[derive(Default)]
struct Document {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

/// As GitHub and mdBook make anchors of headings.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// `src="…"`, `srcset="…"` and `href="…"`.
fn links_of_html(html: &str) -> impl Iterator<Item = &str> {
    let after = |name: &'static str| html.split(name).skip(1).filter_map(|rest| rest.split('"').next());
    after(" src=\"").chain(after(" srcset=\"")).chain(after(" href=\""))
}

fn parse(text: &str) -> Document {
    let (mut document, mut heading) = (Document::default(), None::<String>);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push(dest_url.into_string());
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                document.links.extend(links_of_html(&html).map(str::to_owned));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = slug(&heading.take().unwrap_or_default());
                let taken = |n: &u32| !document.anchors.contains(&format!("{anchor}-{n}"));
                let again = (1..).find(taken).map(|n| format!("{anchor}-{n}"));
                let is_new = document.anchors.insert(anchor);
                document.anchors.extend(again.filter(|_| !is_new));
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    document
}

/// `docs/guide/../../a.md` is `a.md`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{} is not in the repository", path.display()),
            part => normal.push(part),
        }
    }
    normal
}

/// What is wrong with a link from `path`, if anything.
fn check(documents: &BTreeMap<String, Document>, path: &str, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = match file {
        "" => PathBuf::from(path),
        file => normal(&Path::new(path).parent().expect("a file is in a folder").join(file)),
    };
    if !root().join(&target).exists() {
        return Err(format!("{path}: there is no {link}"));
    }
    // The book has nothing but the guide.
    if path.starts_with("docs/guide/") && !target.starts_with("docs/guide") {
        return Err(format!("{path}: {link} leads out of the book"));
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let document = target.to_str().and_then(|target| documents.get(target));
    match document.is_some_and(|document| document.anchors.contains(anchor)) {
        true => Ok(()),
        false => Err(format!("{path}: there is no heading for {link}")),
    }
}

/// With the files that mdBook includes: `{{#include ../../proto/PROTOCOL.md}}`.
fn read_with_includes(path: &str) -> String {
    let folder = Path::new(path).parent().expect("a file is in a folder");
    let included = |line: &str| {
        let file = line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"))?;
        Some(read(normal(&folder.join(file)).to_str().expect("UTF-8")))
    };
    read(path).lines().map(|line| included(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn links_lead_somewhere() {
    let documents: BTreeMap<_, _> =
        documents().into_iter().map(|path| (path.clone(), parse(&read_with_includes(&path)))).collect();
    let links =
        || documents.iter().flat_map(|(path, document)| document.links.iter().map(move |link| (path, link)));
    let wrong: Vec<_> = links().filter_map(|(path, link)| check(&documents, path, link).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(links().count() > 100, "links are found");
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let text = "# One `two`\n\n## Again\n\n## Again\n\n[a](b.md) ![c](d.svg)\n\n<img src=\"e.svg\">\n";
    let document = parse(text);
    assert_eq!(document.links, ["b.md", "d.svg", "e.svg"]);
    assert_eq!(Vec::from_iter(&document.anchors), ["again", "again-1", "one-two"]);
    let documents = BTreeMap::from([("README.md".to_owned(), document)]);
    assert_eq!(check(&documents, "README.md", "#again-1"), Ok(()));
    assert_eq!(check(&documents, "README.md", "https://example.com/nothing"), Ok(()));
    assert!(check(&documents, "README.md", "#three").is_err());
    assert!(check(&documents, "README.md", "nothing.md").is_err());
    assert!(check(&documents, "docs/guide/README.md", "../../README.md").is_err());
}
