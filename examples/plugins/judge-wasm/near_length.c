/* A judge without a model: the answer whose number of words is nearer to a wanted number is better. */

#include "isr_plugin.h"

static double wanted = 8;

isr_manifest isr_describe(void) {
    return (isr_manifest){
        .name = ISR_TEXT("near_length"),
        .help = ISR_TEXT("Prefers the answer whose number of words is nearer to a wanted number."),
        .schema = ISR_TEXT("{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {\"words\": "
                           "{\"type\": \"integer\", \"minimum\": 1, \"default\": 8, "
                           "\"description\": \"The wanted number of words. Default 8.\"}}}"),
        .example = ISR_TEXT("words = 8\n"),
    };
}

isr_text isr_configure(isr_text settings) {
    wanted = isr_number(settings, ISR_TEXT("words"), 8);
    if (wanted < 1) return ISR_TEXT("words must be at least 1");
    return ISR_TEXT("");
}

/* How far an answer is from the wanted number of words. */
static double distance(isr_text answer) {
    double words = 0;
    bool inside = false;
    for (size_t i = 0; i < answer.length; i++) {
        bool space = answer.at[i] == ' ' || (answer.at[i] >= '\t' && answer.at[i] <= '\r');
        if (!space && !inside) words++;
        inside = !space;
    }
    return words < wanted ? wanted - words : words - wanted;
}

isr_outcome isr_judge(const isr_judge_case *it) {
    double gain = distance(it->second.text) - distance(it->first.text);
    double size = gain < 0 ? -gain : gain;
    return isr_p_first(0.5 + 0.5 * gain / (1 + size));
}
