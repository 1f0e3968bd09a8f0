//! How well a model predicts.

/// Perplexity of a mean loss in nats per token: `exp(loss)`, the number of equally likely tokens that would leave the same doubt.
pub fn perplexity(loss_nats: f64) -> f64 {
    loss_nats.exp()
}

/// Bits a byte of text: the summed loss of all its tokens in nats, over `ln 2` and the text's length in bytes.
///
/// Unlike perplexity it compares models with different tokenizers. Without a byte there is nothing to compare: NaN.
pub fn bits_per_byte(total_nats: f64, bytes: u64) -> f64 {
    if bytes == 0 {
        return f64::NAN;
    }
    total_nats / (std::f64::consts::LN_2 * bytes as f64)
}

/// The mean loss of many batches that hold different numbers of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeanLoss {
    total_nats: f64,
    tokens: u64,
}

impl MeanLoss {
    /// Adds a batch by its mean loss and the number of tokens that the mean is over. A batch without tokens changes nothing.
    pub fn add(&mut self, mean_nats: f64, tokens: u64) {
        // The mean over no tokens is not a number, and must not spoil the sum.
        if tokens > 0 {
            self.total_nats += mean_nats * tokens as f64;
            self.tokens += tokens;
        }
    }

    /// The summed loss in nats, as [`bits_per_byte`] takes it.
    pub fn total_nats(&self) -> f64 {
        self.total_nats
    }

    /// The tokens added.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The mean loss in nats per token; none before the first token.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.total_nats / self.tokens as f64)
    }
}

/// The 95 % interval of a share of `correct` in `total` (Wilson 1927); `[0, 1]` where there is nothing.
///
/// ```
/// let [low, high] = taal_metrics::wilson_interval(8, 10);
/// assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4);
/// ```
pub fn wilson_interval(correct: u64, total: u64) -> [f64; 2] {
    /// The normal distribution's 97.5 % point.
    const Z: f64 = 1.959_963_984_540_054;
    if total == 0 {
        return [0.0, 1.0];
    }
    let n = total as f64;
    let share = correct as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((centre - spread) / scale).max(0.0),
        ((centre + spread) / scale).min(1.0),
    ]
}

/// The share of predictions that hit their target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accuracy {
    correct: u64,
    total: u64,
}

impl Accuracy {
    /// Adds predicted token ids and their targets, pair by pair. Targets below zero (the ignore index -100) do not count, nor does
    /// what one side has more than the other.
    pub fn add(&mut self, predictions: &[i32], targets: &[i32]) {
        let counted = predictions.iter().zip(targets).filter(|&(_, &target)| target >= 0);
        for (prediction, target) in counted {
            self.total += 1;
            self.correct += u64::from(prediction == target);
        }
    }

    /// The predictions that were right.
    pub fn correct(&self) -> u64 {
        self.correct
    }

    /// The predictions that counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The share in 0..=1; none before the first prediction.
    pub fn value(&self) -> Option<f64> {
        (self.total > 0).then(|| self.correct as f64 / self.total as f64)
    }
}
