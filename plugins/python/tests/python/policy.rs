//! What a plugin asks the policy, and what it gets.

use std::sync::Arc;

use isr_testing::FakePolicy;
use isr_testing::fixtures::case;

use crate::support::File;

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_asks_the_policy_while_it_judges() {
    let file = File::judging(
        "reply = case.generate('A or B?', max_new_tokens=9, temperature=0.0)[0]\n\
         again, other = case.generate('A or B?', n=2, seed=5, max_new_tokens=9)\n\
         first, second = case.score('which?', [case.first.text, {'opening': 'b'}])\n\
         pixels = case.scene.frame(1)\n\
         assert len(pixels) == 3 * case.scene.width * case.scene.height, len(pixels)\n\
         assert len(first) == len(case.first.text) and len(second) == 1, (first, second)\n\
         assert reply.text in 'AB' and len(reply.logprobs) == len(reply.token_ids)\n\
         return [Vote(True, 1.0 if reply.text == 'A' else 0.0), Vote(False, 0.25)]",
    );
    let policy = Arc::new(FakePolicy::default());
    let verdict = file.judge().unwrap().judge(&case("one", "two"), &policy.frozen()).await.unwrap();
    assert_eq!(verdict.votes.len(), 2);
    assert!(verdict.p_first == 0.625 || verdict.p_first == 0.125, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_an_exception_in_the_plugin() {
    let file = File::judging(
        "said = []\n\
         for ask in (lambda: case.generate('x', temperature=-1.0), lambda: case.generate('x', n=65),\n\
         \x20           lambda: case.generate('x', max_new_tokens=5000),\n\
         \x20           lambda: case.score('x', ['a'] * 1025),\n\
         \x20           lambda: case.generate('x', heat=1), lambda: case.scene.frame(2)):\n\
         \x20   try:\n\
         \x20       ask()\n\
         \x20   except Exception as error:\n\
         \x20       said.append(f'{type(error).__name__}: {error}')\n\
         raise BadInput(' | '.join(said))",
    );
    let policy = Arc::new(FakePolicy::default());
    let refused = file.judge().unwrap().judge(&case("one", "two"), &policy.frozen()).await.unwrap_err();
    let said = refused.to_string();
    for part in [
        "temperature is -1",
        "n is 65; it must be 1 to 64",
        "max_new_tokens is 5000; a plugin may ask for at most 4096",
        "1025 continuations; a plugin may ask for at most 1024 at once",
        "unknown field `heat`",
        "IndexError: frame 2 of 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_may_be_in_flight_are_all_answered_each_with_its_own_answer() {
    let file = File::judging(
        "from concurrent.futures import ThreadPoolExecutor\n\
         def ask(n): return len(case.score('?', ['x' * n])[0])\n\
         with ThreadPoolExecutor(200) as pool:\n\
         \x20   assert list(pool.map(ask, range(1, 201))) == list(range(1, 201))\n\
         return 0.5",
    );
    let policy = Arc::new(FakePolicy::default());
    let verdict = file.judge().unwrap().judge(&case("one", "two"), &policy.frozen()).await;
    assert_eq!(verdict.unwrap().p_first, 0.5);
}
