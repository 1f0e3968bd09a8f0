//! `taal embeddings`: what the vectors of words know, and a map of them.

use std::path::Path;

use serde::Serialize;
use taal_draw::{MapSource, WordMap};
use taal_evaluation::{
    Analogies, AnalogyScore, BOOTSTRAP_ROUNDS, Categories, CategoryScore, SectionScore, SimilarityScore, UnknownWords,
    WordPairs, WordVectors,
};
use taal_inference::embed;
use taal_metrics::pca;

use crate::arguments::{EmbeddingsPlotArguments, EmbeddingsScoreArguments};
use crate::failure::Failure;
use crate::{columns, embed as texts, models, terminal};

/// Seed of the bootstrap: equal files give equal intervals.
const SEED: u64 = 0;

/// A file of words, at most so large.
const MAX_WORDS_BYTES: u64 = 16 << 20;

/// Points of a map: more cannot be read, and the places of their names are tried one against another.
const MAX_POINTS: usize = 2000;

/// What is measured.
#[derive(Debug, Serialize)]
struct Scores {
    similarity: Vec<SimilarityScore>,
    analogies: Vec<AnalogyScore>,
    categories: Vec<CategoryScore>,
}

/// Compares the vectors of words with what people say.
pub fn score(arguments: &EmbeddingsScoreArguments) -> Result<(), Failure> {
    let lowercase = arguments.lowercase;
    let read_pairs = |path| WordPairs::read(path, lowercase);
    let pairs = arguments.similarity.iter().map(|path| read_pairs(path));
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let analogies = arguments.analogies.iter().map(|path| Analogies::read(path, lowercase));
    let analogies = analogies.collect::<Result<Vec<_>, _>>()?;
    let categories = arguments.categories.iter();
    let categories = categories.map(|path| Categories::read(path, lowercase));
    let categories = categories.collect::<Result<Vec<_>, _>>()?;
    let wanted = pairs.iter().flat_map(WordPairs::words);
    let wanted = wanted.chain(analogies.iter().flat_map(Analogies::words));
    let wanted = wanted.chain(categories.iter().flat_map(Categories::words));
    let vectors = match (&arguments.vectors, &arguments.model) {
        (Some(path), _) => WordVectors::read(path)?,
        (None, Some(dir)) => {
            let lm = models::open(dir, arguments.device.device)?;
            WordVectors::of_model(&lm, wanted, *arguments.pool)?
        }
        (None, None) => return Err(anyhow::anyhow!("expected --model or --vectors, got neither").into()),
    };
    // Of a file all words may be answers; of a model those of the file of analogies.
    let answer = |analogies: &Analogies| match arguments.vectors {
        Some(_) => analogies.score(&vectors, vectors.words().iter().map(String::as_str)),
        None => analogies.score(&vectors, analogies.words()),
    };
    let scores = Scores {
        similarity: pairs
            .iter()
            .map(|pairs| pairs.score(&vectors, BOOTSTRAP_ROUNDS, SEED))
            .collect(),
        analogies: analogies.iter().map(answer).collect(),
        categories: categories.iter().map(|categories| categories.score(&vectors)).collect(),
    };
    if *arguments.json {
        return Ok(terminal::print_json(&scores)?);
    }
    let words: String = [
        scores.similarity.iter().map(similarity_words).collect::<String>(),
        scores.analogies.iter().map(analogy_words).collect(),
        scores.categories.iter().map(category_words).collect(),
    ]
    .concat();
    Ok(terminal::print(&words)?)
}

fn similarity_words(score: &SimilarityScore) -> String {
    let rho = match (score.spearman, score.interval) {
        (Some(rho), Some([low, high])) => format!("Spearman {rho:.3} ({low:.3} to {high:.3})"),
        _ => "Spearman none".to_owned(),
    };
    format!(
        "{}: {rho}, {} of {} pairs\n{}",
        score.name,
        terminal::grouped(score.scored),
        terminal::grouped(score.total),
        unknown_words(&score.unknown)
    )
}

fn analogy_words(score: &AnalogyScore) -> String {
    let line = |section: &SectionScore| {
        let [low, high] = section.interval.map(|share| 100.0 * share);
        let share = match section.accuracy {
            Some(share) => format!("{:5.1} % ({low:.1} to {high:.1})", 100.0 * share),
            None => " none".to_owned(),
        };
        format!(
            "{share}, {} of {} questions",
            terminal::grouped(section.scored),
            terminal::grouped(section.total)
        )
    };
    let sections: String = score
        .sections
        .iter()
        .map(|section| format!("  {}  {}\n", line(section), section.name))
        .collect();
    format!(
        "{}: {}, answers chosen from {} words\n{sections}{}",
        score.name,
        line(&score.all).trim_start(),
        terminal::grouped(score.candidates),
        unknown_words(&score.unknown)
    )
}

fn category_words(score: &CategoryScore) -> String {
    let share = |share: Option<f64>| share.map_or("none".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    format!(
        "{}: purity {}, of one cluster {}, {} categories, {} of {} words\n{}",
        score.name,
        share(score.purity),
        share(score.baseline),
        score.categories,
        terminal::grouped(score.scored),
        terminal::grouped(score.total),
        unknown_words(&score.unknown)
    )
}

/// A line about the words without a vector, if there are any.
fn unknown_words(unknown: &UnknownWords) -> String {
    if unknown.count == 0 {
        return String::new();
    }
    let named: Vec<String> = unknown.first.iter().map(|word| columns::visible(word)).collect();
    let more = if unknown.count > named.len() as u64 {
        ", ..."
    } else {
        ""
    };
    format!(
        "  words without a vector: {} ({}{more})\n",
        terminal::grouped(unknown.count),
        named.join(", ")
    )
}

/// A map on standard output.
#[derive(Debug, Serialize)]
struct Map<'a> {
    out: &'a Path,
    /// Of the variance, by the two axes.
    shares: [f64; 2],
    points: Vec<Point<'a>>,
    /// Words that the model does not know.
    unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Point<'a> {
    text: &'a str,
    x: f64,
    y: f64,
}

/// How a map is written.
enum Format {
    Svg,
    Html,
}

/// Draws words or lines as points of a plane.
pub fn plot(arguments: &EmbeddingsPlotArguments) -> Result<(), Failure> {
    let format = format_of(&arguments.out)?;
    let is_lines = !arguments.lines.is_empty();
    let wanted = if is_lines { lines(arguments)? } else { words(arguments)? };
    let lm = models::open(&arguments.model, arguments.device.device)?;
    let (labels, vectors, unknown) = if is_lines {
        texts::say_what_is_cut(&lm, wanted.iter().map(String::as_str))?;
        let vectors = wanted.iter().map(|text| embed(&lm, text, *arguments.pool));
        let vectors = vectors.collect::<Result<Vec<_>, _>>()?;
        (wanted, vectors, Vec::new())
    } else {
        let vectors = WordVectors::of_model(&lm, wanted.iter().map(String::as_str), *arguments.pool)?;
        let (known, unknown): (Vec<String>, Vec<String>) =
            wanted.into_iter().partition(|word| vectors.vector(word).is_some());
        let rows = known
            .iter()
            .filter_map(|word| vectors.vector(word))
            .map(<[f32]>::to_vec);
        let rows = rows.collect();
        (known, rows, unknown)
    };
    if !unknown.is_empty() {
        let named: Vec<String> = unknown.iter().take(10).map(|word| columns::visible(word)).collect();
        terminal::message(&format!(
            "left out, unknown to the model's tokenizer: {}",
            named.join(", ")
        ));
    }
    if vectors.len() < 3 {
        let what = if is_lines { "lines" } else { "known words" };
        let error = anyhow::anyhow!("expected at least 3 {what} for a map, got {}", vectors.len());
        return Err(error.into());
    }
    let projection = pca(&vectors);
    let map = word_map(arguments, labels, &projection);
    let content = match format {
        Format::Svg => map.svg(),
        Format::Html => map.html(),
    };
    taal_store::write_atomic(&arguments.out, content.as_bytes())?;
    if *arguments.json {
        let points = map.labels.iter().zip(&map.points);
        return Ok(terminal::print_json(&Map {
            out: &arguments.out,
            shares: projection.shares,
            points: points.map(|(text, &[x, y])| Point { text, x, y }).collect(),
            unknown,
        })?);
    }
    Ok(terminal::print(&format!(
        "{}: {} points, {:.1} % of the variance\n",
        arguments.out.display(),
        terminal::grouped(map.points.len() as u64),
        100.0 * projection.shares.iter().sum::<f64>()
    ))?)
}

fn word_map(
    arguments: &EmbeddingsPlotArguments,
    labels: Vec<String>,
    projection: &taal_metrics::Projection,
) -> WordMap {
    let pooling = arguments.pool.and_then(|pool| {
        let pool = serde_json::to_value(pool).ok()?;
        pool.as_str().map(str::to_owned)
    });
    let source = MapSource {
        model: &terminal::model_name(&arguments.model),
        has_words: arguments.lines.is_empty(),
        pooling: pooling.as_deref(),
    };
    WordMap::of_projection(source, labels, projection, arguments.lang.language())
}

/// From the ending of the name.
fn format_of(path: &Path) -> Result<Format, Failure> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("svg") => Ok(Format::Svg),
        Some("html" | "htm") => Ok(Format::Html),
        _ => Err(anyhow::anyhow!("--out {}: expected a name that ends in .svg or .html", path.display()).into()),
    }
}

fn words(arguments: &EmbeddingsPlotArguments) -> Result<Vec<String>, Failure> {
    let mut words = arguments.words.clone();
    for path in &arguments.word_files {
        let text = taal_store::TextReader::open(path, MAX_WORDS_BYTES)?.read_all()?;
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    let mut seen = std::collections::HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    if words.is_empty() {
        return Err(anyhow::anyhow!("no word was given: name some, or a file with --words or --lines").into());
    }
    few_enough(words)
}

fn lines(arguments: &EmbeddingsPlotArguments) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for path in arguments.lines.iter() {
        lines.extend(texts::lines(path)?.into_iter().map(|(_, line)| line));
    }
    few_enough(lines)
}

fn few_enough(texts: Vec<String>) -> Result<Vec<String>, Failure> {
    match texts.len() {
        n if n > MAX_POINTS => Err(anyhow::anyhow!("expected at most {MAX_POINTS} points on a map, got {n}").into()),
        _ => Ok(texts),
    }
}
