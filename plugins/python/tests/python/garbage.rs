//! Processes that break the protocol, and those that print.

use std::sync::Arc;

use isr_testing::FakePolicy;
use isr_testing::fixtures::case;

use crate::hostile::{assert_quarantines, judged};
use crate::support::File;

/// Writes to the pipe past the package.
const RAW: &str = "from isr_plugin import _wire\n\
                   def raw(text):\n    _wire._outgoing.write(text)\n    _wire._outgoing.flush()\n";

fn raw(body: &str) -> File {
    let body: String = body.lines().map(|line| format!("        {line}\n")).collect();
    File::new(&format!("{RAW}\nclass It(Judge):\n    def judge(self, case):\n{body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn printing_does_not_disturb() {
    let file = File::judging(
        "print('{\"type\": \"result\", \"id\": 1, \"value\": 0}')\n\
         os.write(1, b'to the descriptor\\n')\n\
         os.system('echo from a child')\n\
         assert sys.stdin.read() == ''\n\
         return 0.75",
    );
    let policy = Arc::new(FakePolicy::default()).frozen();
    let verdict = file.judge().unwrap().judge(&case("one", "two"), &policy).await.unwrap();
    assert_eq!(verdict.p_first, 0.75);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_pipe_is_quoted() {
    let said = judged(&raw("raw('garbage\\n')\ntime.sleep(60)")).await;
    let parts = ["plugin `it`, judge: it wrote a line that is no message of the protocol", "`garbage`"];
    assert_quarantines(&said, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_call_is_given_to_nobody() {
    let said =
        judged(&raw("raw('{\"type\": \"result\", \"id\": 99, \"value\": 1}\\n')\ntime.sleep(60)")).await;
    assert_quarantines(&said, &["it broke the protocol: it answered call 99, which is not open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_is_no_answer() {
    let raw_nan = "raw('{\"type\": \"result\", \"id\": 1, \"value\": NaN}\\n')\ntime.sleep(60)";
    assert_quarantines(&judged(&raw(raw_nan)).await, &["no message of the protocol", "NaN"]);
    let returned = judged(&File::judging("return float('nan')")).await;
    assert_quarantines(&returned, &["plugin `it`, judge: Out of range float values"]);
    let outside = judged(&File::judging("return 1.5")).await;
    assert_quarantines(&outside, &["its answer cannot be used: its probability is 1.5, not in [0, 1]"]);
    let nothing = judged(&File::judging("pass")).await;
    assert_quarantines(&nothing, &["plugin `it`, judge: its answer cannot be used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_is_cut_off() {
    let said = judged(&raw("while True: raw('x' * (1 << 20))")).await;
    assert_quarantines(&said, &["it wrote a line of more than 67108864 bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_refused() {
    let ask =
        "raw('{\"type\": \"ask\", \"id\": 1, \"call\": 77, \"method\": \"frame\", \"params\": {}}\\n')";
    let said = judged(&raw(&format!("{ask}\ntime.sleep(60)"))).await;
    assert_quarantines(&said, &["it broke the protocol: it asked about call 77, which is not open"]);
    let many = "for i in range(1001): case.scene.frame(0)";
    let said = judged(&File::judging(many)).await.to_string();
    assert!(said.contains("RuntimeError: the call has asked 1000 questions"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_asks_and_does_not_read_is_ended_at_its_limit() {
    let file = File::new(
        "import json\nfrom isr_plugin import _server, _wire\n\n\
         class It(Judge): pass\n\n\
         incoming = _wire.take_over()\n\
         for line in incoming:\n    \
             message = json.loads(line)\n    \
             if message['type'] == 'hello':\n        \
                 _wire.write({'type': 'hello', 'protocol': 1, 'components': [_server.declare(It)]})\n    \
             elif message['calls'][0]['method'] == 'configure':\n        \
                 _wire.write({'type': 'result', 'id': 0})\n    \
             else:\n        \
                 for id in range(100000):\n            \
                     _wire.write({'type': 'ask', 'id': id, 'call': message['calls'][0]['id'],\n\
         \x20                            'method': 'frame', 'params': {'index': 0}})\n        \
                 time.sleep(60)",
    );
    let said = judged(&file).await;
    assert_quarantines(
        &said,
        &["it broke the protocol: it does not read its input, where 1024 messages wait"],
    );
}

#[test]
fn a_file_of_another_protocol_is_refused() {
    let file = File::new("from isr_plugin import _server\n_server.PROTOCOL = 2\nclass It(Judge): pass");
    let said = file.load().err().unwrap();
    assert!(said.starts_with("it broke the protocol: it speaks version 2 of the protocol"), "{said}");
}
