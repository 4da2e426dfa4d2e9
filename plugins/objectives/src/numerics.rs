//! Numerically stable functions of log-ratios and log-probs. Values and derivatives are finite and keep their
//! relative precision for every finite argument.

use num_dual::{Dual64, DualNum};

/// Clamp of exponents. `exp(80)` can still be squared and multiplied by 1e6.
const LARGEST_EXPONENT: f64 = 80.0;

/// `-ln(1 + exp(-x))`, with a relative error of a few ulp for either sign of `x`.
pub(crate) fn log_sigmoid(x: Dual64) -> Dual64 {
    if x.re > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() }
}

/// `1 / (1 + exp(-x))`.
pub(crate) fn sigmoid(x: Dual64) -> Dual64 {
    if x.re >= 0.0 {
        return ((-x).exp() + 1.0).recip();
    }
    let small = x.exp();
    small / (small + 1.0)
}

/// `max(x, 0)`; the derivative at 0 is 0.
pub(crate) fn relu(x: Dual64) -> Dual64 {
    if x.re > 0.0 { x } else { Dual64::from_re(0.0) }
}

/// `exp(min(x, 80))`; the derivative beyond is 0.
pub(crate) fn capped_exp(x: Dual64) -> Dual64 {
    if x.re > LARGEST_EXPONENT { Dual64::from_re(LARGEST_EXPONENT.exp()) } else { x.exp() }
}

/// `ln(1 - exp(x))` for a log-prob `x`, clamped to at most -1e-7; the derivative beyond is 0.
pub(crate) fn log_one_minus_exp(x: Dual64) -> Dual64 {
    if x.re > -1e-7 {
        return Dual64::from_re((-(-1e-7_f64).exp_m1()).ln());
    }
    if x.re > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64) -> Dual64 {
        Dual64::from_re(x).derivative()
    }

    #[test]
    fn log_sigmoid_and_sigmoid_hold_at_the_extremes() {
        let values = |f: fn(Dual64) -> Dual64, x: f64| (f(at(x)).re, f(at(x)).eps);
        assert_eq!(values(log_sigmoid, -1e4), (-1e4, 1.0));
        assert_eq!(values(log_sigmoid, 1e4), (0.0, 0.0));
        assert_eq!(values(sigmoid, 1e4), (1.0, 0.0));
        assert_eq!(values(sigmoid, -1e4), (0.0, 0.0));
        assert!((log_sigmoid(at(0.0)).re + 2.0_f64.ln()).abs() < 1e-16);
        assert_eq!(values(sigmoid, 0.0), (0.5, 0.25));
    }

    #[test]
    fn small_values_keep_their_digits() {
        let x = 40.0_f64;
        let small = (-x).exp();
        assert!((log_sigmoid(at(x)).re / -small - 1.0).abs() < 1e-15);
        assert!((log_sigmoid(at(x)).eps / small - 1.0).abs() < 1e-15);
        assert!((sigmoid(at(-x)).re / small - 1.0).abs() < 1e-15);
        assert!((log_one_minus_exp(at(-x)).re / -small - 1.0).abs() < 1e-15);
        assert!((log_one_minus_exp(at(-1e-6)).re - (1e-6_f64 - 5e-13).ln()).abs() < 1e-9);
    }

    #[test]
    fn derivatives_are_the_closed_forms() {
        for step in -80..80 {
            let x = f64::from(step) * 0.37;
            let s = 1.0 / (1.0 + (-x).exp());
            assert!((log_sigmoid(at(x)).eps - (1.0 - s)).abs() < 1e-15);
            assert!((sigmoid(at(x)).eps - s * (1.0 - s)).abs() < 1e-15);
            assert_eq!(relu(at(x)).eps, f64::from(u8::from(x > 0.0)));
        }
        for x in [-5.0_f64, -1.0, -0.5, -0.01] {
            let slope = -x.exp() / -x.exp_m1();
            assert!((log_one_minus_exp(at(x)).eps / slope - 1.0).abs() < 1e-12);
        }
    }
}
