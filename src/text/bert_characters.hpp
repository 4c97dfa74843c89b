// The character classes of BERT's normalizer and pre-tokenizer. The reference takes its general categories from
// Unicode 8; characters that later versions added count as having none of these classes there, and so here.
#pragma once

namespace vbon::text {

bool is_bert_control(char32_t code);      // Cc, Cf, Co except tab, newline, carriage return
bool is_bert_punctuation(char32_t code);  // ASCII symbols and P*
bool is_bert_accent(char32_t code);       // Mn
bool is_bert_ideograph(char32_t code);    // the CJK ideograph blocks that BERT sets apart

}  // namespace vbon::text
