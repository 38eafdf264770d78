//! Repository laws: what the compiler and clippy cannot see.
//! Run with all tests; each law is one test, and names every place that breaks it.
//! Must never need more than the files that git knows.
//! Read next: `ARCHITECTURE.md` (why these laws hold), `clippy.toml`, `deny.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const RUST_LINES_MAX: usize = 800;
/// Stand-in products; each has its folder in `adapters/vendors/`.
const PRODUCTS: [&str; 5] = ["tsubame", "kaede", "hinoki", "ayame", "momiji"];
// Written in two parts: this file has to pass its own laws.
const FORBIDDEN_IN_RUST: [&str; 3] = [
    concat!("#[", "ignore"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];
const MACHINE_PATHS: [&str; 3] = [
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
];
/// Names of the national numbers (個人番号, 住民票コード) as fields would carry them.
const NATIONAL_NUMBERS: [&str; 6] = [
    "kojinbango",
    "kojin_bango",
    "my_number",
    "individual_number",
    "juminhyokodo",
    "resident_record_code",
];

/// Words in capitals that hub and adapters write down and that are no reasons: words of SQL and of
/// the products' own interfaces.
const NO_REASONS: [&str; 18] = [
    "CARGO_PKG_VERSION",
    "COMMIT",
    "EPOCH",
    "FURUI_HAN",
    "FURUI_RIREKI",
    "GETPID",
    "HENKO",
    "HOGO",
    "KOSHIN",
    "MITOROKU",
    "MTSHR",
    "ROLLBACK",
    "SHIBO",
    "SHOJO",
    "SUMI",
    "TENSHUTSU",
    "TOROKU",
    "ZAIJU",
];

/// A text file that git knows, tracked or not yet.
#[derive(Debug)]
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }

    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Line numbers, from 1, of the lines that hold for the test.
    fn places(&self, mut broken: impl FnMut(&str) -> bool) -> Vec<String> {
        let lines = self.text.lines().enumerate();
        lines
            .filter(|(_, line)| broken(line))
            .map(|(index, line)| format!("{}:{}: {}", self.path, index + 1, line.trim()))
            .collect()
    }

    /// The text without tests: up to the first `#[cfg(test)]`, nothing of a file of tests.
    fn product_text(&self) -> &str {
        let of_tests = ["/tests/", "/contract/", "/contract.rs"];
        if self.file_name() == "tests.rs" || of_tests.iter().any(|part| self.path.contains(part)) {
            return "";
        }
        self.text
            .split_once("#[cfg(test)]")
            .map_or(self.text.as_str(), |(before, _)| before)
    }
}

fn root() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(folder
        .parent()
        .context("the xtask folder has no parent")?
        .to_path_buf())
}

fn sources() -> Result<Vec<Source>> {
    let root = root()?;
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .context("start git")?;
    if !listed.status.success() {
        bail!(
            "git cannot list the files: {}",
            String::from_utf8_lossy(&listed.stderr)
        );
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        // A file may be deleted and still be listed; what is not text is no source.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    if sources.is_empty() {
        bail!("git lists no files");
    }
    Ok(sources)
}

fn rust_sources() -> Result<Vec<Source>> {
    Ok(sources()?
        .into_iter()
        .filter(|source| source.has_extension("rs"))
        .collect())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root()?.join(path)).with_context(|| format!("read {path}"))
}

fn assert_none(law: &str, broken: &[String]) {
    assert!(
        broken.is_empty(),
        "{law}; broken in\n  {}",
        broken.join("\n  ")
    );
}

/// Names of the crates in one section of a manifest.
fn dependencies<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
    let header = format!("[{section}]");
    manifest
        .lines()
        .skip_while(|line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once([' ', '=', '.']).map(|(name, _)| name))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let forbidden = [
        (
            "proto",
            vec![
                "musubi-hub",
                "musubi-adapter-sdk",
                "musubi-adapters",
                "musubi-products",
            ],
        ),
        (
            "hub",
            vec!["musubi-adapter-sdk", "musubi-adapters", "musubi-products"],
        ),
        (
            "adapters/sdk",
            vec!["musubi-hub", "musubi-adapters", "musubi-products"],
        ),
        ("adapters", vec!["musubi-hub", "musubi-products"]),
        (
            "tests/products",
            vec!["musubi-hub", "musubi-adapter-sdk", "musubi-adapters"],
        ),
        (
            "tests/servers",
            vec!["musubi-hub", "musubi-adapters", "musubi-products"],
        ),
    ];
    let mut broken = Vec::new();
    for (folder, crates) in forbidden {
        let path = format!("{folder}/Cargo.toml");
        let manifest = read(&path)?;
        let mut used = dependencies(&manifest, "dependencies");
        assert!(
            !used.is_empty(),
            "{path} has no dependencies: is it read right?"
        );
        if folder == "hub" {
            used.extend(dependencies(&manifest, "dev-dependencies"));
        }
        let found = used.iter().filter(|name| crates.contains(name));
        broken.extend(found.map(|name| format!("{path}: {name}")));
    }
    assert_none(
        "the hub knows no adapter, adapters and products know no hub",
        &broken,
    );
    Ok(())
}

#[test]
fn hub_names_no_product() -> Result<()> {
    let mut broken = Vec::new();
    for source in rust_sources()?
        .iter()
        .filter(|source| source.path.starts_with("hub/src/"))
    {
        let lines = source.product_text().lines().enumerate();
        broken.extend(
            lines
                .filter(|(_, line)| {
                    let line = line.to_lowercase();
                    PRODUCTS.iter().any(|product| line.contains(product))
                })
                .map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim())),
        );
    }
    assert_none("the hub treats all products alike and names none", &broken);
    Ok(())
}

#[test]
fn rust_files_are_short() -> Result<()> {
    let broken: Vec<String> = rust_sources()?
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > RUST_LINES_MAX)
        .map(|(source, lines)| format!("{}: {lines} lines", source.path))
        .collect();
    assert_none(
        &format!("a file has at most {RUST_LINES_MAX} lines"),
        &broken,
    );
    Ok(())
}

#[test]
fn nothing_is_ignored_or_left_to_do() -> Result<()> {
    let broken: Vec<String> = rust_sources()?
        .iter()
        .flat_map(|source| {
            source.places(|line| FORBIDDEN_IN_RUST.iter().any(|word| line.contains(word)))
        })
        .collect();
    assert_none("every test runs and every function works", &broken);
    Ok(())
}

#[test]
fn no_file_knows_the_machine() -> Result<()> {
    let names_a_machine = |line: &str| {
        MACHINE_PATHS.iter().any(|path| {
            line.match_indices(path).any(|(at, _)| {
                // A folder inside the repository may have such a name, a path from the root may not.
                let before = line.get(..at).and_then(|text| text.chars().next_back());
                !before.is_some_and(|char| char.is_alphanumeric() || "._-}~".contains(char))
            })
        })
    };
    let broken: Vec<String> = sources()?
        .iter()
        .flat_map(|source| source.places(names_a_machine))
        .collect();
    assert_none("paths are relative to the repository", &broken);
    Ok(())
}

#[test]
fn modules_are_named_and_introduced() -> Result<()> {
    let mut broken = Vec::new();
    for source in rust_sources()? {
        if source.file_name() == "mod.rs" {
            broken.push(format!(
                "{}: name it after its folder, one level up",
                source.path
            ));
        }
        // `tests.rs` belongs to the module beside it, which is introduced.
        if source.file_name() != "tests.rs" && !source.text.starts_with("//!") {
            broken.push(format!("{}: starts without a `//!` comment", source.path));
        }
    }
    assert_none("a module is `foo.rs` and says first what it is", &broken);
    Ok(())
}

#[test]
fn contract_has_no_national_numbers() -> Result<()> {
    let sources = sources()?;
    let contracts: Vec<&Source> = sources
        .iter()
        .filter(|source| source.has_extension("proto"))
        .collect();
    assert!(!contracts.is_empty(), "there is a contract");
    let broken: Vec<String> = contracts
        .iter()
        .flat_map(|source| source.places(declares_national_number))
        .collect();
    assert_none("no event carries a 個人番号 or a 住民票コード", &broken);
    Ok(())
}

/// A field is `Type name = 1`, an enum value only `NAME = 1`; the item's own name is `romaji: "…"`.
fn declares_national_number(line: &str) -> bool {
    let code = line.split_once("//").map_or(line, |(code, _)| code).trim();
    if let Some(romaji) = code.strip_prefix("romaji:") {
        return NATIONAL_NUMBERS.contains(&romaji.trim().trim_matches('"'));
    }
    let Some((declaration, _)) = code.split_once('=') else {
        return false;
    };
    let words: Vec<&str> = declaration.split_whitespace().collect();
    match words.as_slice() {
        [_type, .., name] => NATIONAL_NUMBERS.contains(name),
        _ => false,
    }
}

#[test]
fn a_field_with_a_national_number_is_seen() {
    for line in [
        "string my_number = 4;",
        "optional string kojinbango = 1 [",
        "romaji: \"kojinbango\"",
    ] {
        assert!(declares_national_number(line), "{line}");
    }
    for line in [
        "RESTRICTED_KIND_MY_NUMBER = 1;",
        "bool card_held = 2;",
        "// string my_number = 4;",
    ] {
        assert!(!declares_national_number(line), "{line}");
    }
}

#[test]
fn every_dependency_has_a_reason() -> Result<()> {
    let manifest = read("Cargo.toml")?;
    let reasons = read("docs/dependencies.md")?;
    let used: Vec<&str> = dependencies(&manifest, "workspace.dependencies")
        .into_iter()
        .filter(|name| !name.starts_with("musubi-"))
        .collect();
    let explained: Vec<&str> = reasons
        .split("\n## ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .split_once('`')
                .map(|(name, _)| name)
        })
        .collect();
    let missing = used.iter().filter(|name| !explained.contains(name));
    let needless = explained.iter().filter(|name| !used.contains(name));
    let broken: Vec<String> = missing
        .map(|name| format!("`{name}` has no line"))
        .chain(needless.map(|name| format!("`{name}` is no dependency any more")))
        .collect();
    assert_none(
        "docs/dependencies.md gives a reason for each dependency",
        &broken,
    );
    Ok(())
}

/// Literals of a source that look like a reason: a word in capitals, four letters or more.
fn reasons_of(source: &Source) -> Vec<&str> {
    let is_reason = |word: &&str| {
        word.len() >= 4
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && !word.ends_with('_')
            && word
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            && !NO_REASONS.contains(word)
    };
    source
        .text
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(is_reason)
        .collect()
}

#[test]
fn every_reason_has_a_page() -> Result<()> {
    const PAGES: &str = "docs/errors/";
    let all = sources()?;
    let index = read("docs/errors/README.md")?;
    let rows_of_registry = read("docs/errors/tsubame.md")?;
    let page_of = |path: &str| -> Option<String> {
        let name = path.strip_prefix(PAGES)?.strip_suffix(".md")?;
        (!matches!(name, "README" | "tsubame")).then(|| name.to_owned())
    };
    let pages: Vec<String> = all.iter().filter_map(|file| page_of(&file.path)).collect();
    let mut broken = Vec::new();
    let mut said: Vec<&str> = Vec::new();
    for source in all.iter().filter(|source| {
        let of_product =
            source.path.starts_with("hub/src/") || source.path.starts_with("adapters/");
        let elsewhere = source.path.contains("/tests/")
            || source.path.contains("/contract")
            || source.path.contains("/telemetry")
            || source.path.contains("/examples/")
            || matches!(source.file_name(), "tests.rs" | "testing.rs");
        of_product && source.has_extension("rs") && !elsewhere
    }) {
        for reason in reasons_of(source) {
            let explained = if source.path.contains("/tsubame/") {
                rows_of_registry.contains(&format!("`{reason}`"))
            } else {
                said.push(reason);
                pages.iter().any(|page| page == reason)
            };
            if !explained {
                broken.push(format!("{}: `{reason}` has no page", source.path));
            }
        }
    }
    for page in &pages {
        if !said.contains(&page.as_str()) {
            broken.push(format!("{PAGES}{page}.md: nobody gives this reason"));
        }
        if !index.contains(&format!("({page}.md)")) {
            broken.push(format!("{PAGES}{page}.md: not in the list of README.md"));
        }
    }
    assert_none(
        "every reason in capitals has a page in docs/errors (or is listed in NO_REASONS)",
        &broken,
    );
    Ok(())
}

/// Targets of the links of a line of Markdown.
fn links_of(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn links_of_documents_lead_to_files() -> Result<()> {
    let root = root()?;
    let all = sources()?;
    let mut broken = Vec::new();
    for source in all.iter().filter(|source| source.has_extension("md")) {
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        broken.extend(source.places(|line| {
            links_of(line).any(|target| {
                let file = target.split('#').next().unwrap_or_default();
                let outside = file.is_empty() || file.contains("://");
                !outside && !root.join(folder).join(file).exists()
            })
        }));
    }
    assert_none("a link of a document leads to a file", &broken);
    Ok(())
}
