//! Budgets of requests, tokens and money.

use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ChatError;
use crate::reply::Usage;
use isr_config::bounds;

/// Limits per process; the run stops when one is reached. Requests are counted before they are
/// sent, failed ones included; tokens and money when a reply arrives, so concurrent requests may exceed them.
/// Cached replies are free.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Maximum number of requests, at least 1. Default none: no limit.
    pub requests: Option<u64>,
    /// Maximum number of prompt and reply tokens together, as the server counts them, at least 1. Default none:
    /// no limit.
    pub tokens: Option<u64>,
    /// Maximum cost, in the currency of `prices`, more than 0. Default none: no limit.
    pub money: Option<f64>,
}

/// Prices of tokens, in any currency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PricesConfig {
    /// Price of a million prompt tokens, at least 0. Default 0.
    pub prompt: f64,
    /// Price of a million reply tokens, at least 0. Default 0.
    pub completion: f64,
}

impl PricesConfig {
    fn of(&self, usage: Usage) -> f64 {
        let Usage { prompt_tokens, completion_tokens } = usage;
        (prompt_tokens as f64 * self.prompt + completion_tokens as f64 * self.completion) / 1e6
    }

    fn is_free(&self) -> bool {
        self.prompt == 0.0 && self.completion == 0.0
    }
}

#[derive(Debug, Default)]
struct Spent {
    requests: u64,
    tokens: u64,
    money: f64,
}

/// Limits, prices and expenses of one client.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: BudgetConfig,
    prices: PricesConfig,
    spent: Mutex<Spent>,
}

impl Budget {
    /// Validates limits and prices.
    pub(crate) fn new(limits: &BudgetConfig, prices: &PricesConfig) -> Result<Self, String> {
        bounds::not_negative("prices.prompt", prices.prompt)?;
        bounds::not_negative("prices.completion", prices.completion)?;
        if limits.requests == Some(0) || limits.tokens == Some(0) {
            return Err("a budget of 0 allows nothing; leave the key out for no limit".to_owned());
        }
        if let Some(money) = limits.money {
            bounds::positive("budget.money", money)?;
            if prices.is_free() {
                return Err(
                    "budget.money needs prices above 0; what a token costs only you know".to_owned()
                );
            }
        }
        Ok(Self { limits: limits.clone(), prices: prices.clone(), spent: Mutex::default() })
    }

    /// Counts a request before it is sent.
    ///
    /// # Errors
    /// [`ChatError::Budget`] if a limit is reached.
    pub(crate) fn book_request(&self) -> Result<(), ChatError> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = [
            ("requests", self.limits.requests.map(|limit| limit as f64), spent.requests as f64),
            ("tokens", self.limits.tokens.map(|limit| limit as f64), spent.tokens as f64),
            ("money", self.limits.money, spent.money),
        ];
        for (what, limit, spent) in counted {
            if let Some(limit) = limit.filter(|&limit| spent >= limit) {
                return Err(ChatError::Budget { what, spent, limit });
            }
        }
        spent.requests += 1;
        Ok(())
    }

    /// Counts the tokens and the cost of a reply.
    ///
    /// # Errors
    /// [`ChatError::NoUsage`] if there is a limit on tokens or money and the server reports no usage.
    pub(crate) fn book_reply(&self, usage: Option<Usage>) -> Result<(), ChatError> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match usage {
            Some(usage) => {
                spent.tokens += usage.prompt_tokens + usage.completion_tokens;
                spent.money += self.prices.of(usage);
                Ok(())
            }
            None if self.limits.tokens.is_some() || self.limits.money.is_some() => Err(ChatError::NoUsage),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn budget(limits: BudgetConfig) -> Budget {
        Budget::new(&limits, &PricesConfig { prompt: 2.0, completion: 10.0 }).unwrap()
    }

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Option<Usage> {
        Some(Usage { prompt_tokens, completion_tokens })
    }

    #[test]
    fn requests_are_counted_to_the_last_one() {
        let budget = budget(BudgetConfig { requests: Some(2), ..Default::default() });
        budget.book_request().unwrap();
        budget.book_request().unwrap();
        let error = budget.book_request().unwrap_err().to_string();
        assert!(error.starts_with("the budget of 2 requests is spent (2)"), "{error}");
    }

    #[test]
    fn money_is_prompt_and_reply_at_their_prices() {
        let budget = budget(BudgetConfig { money: Some(0.001), ..Default::default() });
        budget.book_request().unwrap();
        budget.book_reply(usage(400, 10)).unwrap();
        budget.book_request().unwrap();
        budget.book_reply(usage(0, 10)).unwrap();
        assert!(budget.book_request().is_err(), "400 * 2 + 20 * 10 millionths are 0.001");
    }

    #[test]
    fn tokens_need_a_server_that_counts_them() {
        let budget = budget(BudgetConfig { tokens: Some(10), ..Default::default() });
        budget.book_reply(usage(4, 5)).unwrap();
        budget.book_request().unwrap();
        budget.book_reply(usage(1, 0)).unwrap();
        assert!(budget.book_request().is_err());
        assert_eq!(budget.book_reply(None), Err(ChatError::NoUsage));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let free = PricesConfig::default();
        let money = BudgetConfig { money: Some(1.0), ..Default::default() };
        assert!(Budget::new(&money, &free).unwrap_err().starts_with("budget.money needs prices"));
        let none = BudgetConfig { requests: Some(0), ..Default::default() };
        assert!(Budget::new(&none, &free).unwrap_err().starts_with("a budget of 0"));
        let paid = PricesConfig { prompt: -1.0, completion: 0.0 };
        assert!(
            Budget::new(&BudgetConfig::default(), &paid).unwrap_err().starts_with("prices.prompt is -1")
        );
    }
}
