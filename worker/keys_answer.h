/*
 * keys_answer.h - what metadata services and STS answer: JSON and XML, as credentials or as a refusal.
 */
#ifndef WORKER_KEYS_ANSWER_H
#define WORKER_KEYS_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/keys.h"

#define KEYS_BODY_MAX 65536         /* bytes of one answer */
#define KEYS_CODE_MAX 128
#define KEYS_MESSAGE_MAX 512

struct keys_answer {
	struct keys keys;           /* set where it is an answer with credentials that can be right */
	char code[KEYS_CODE_MAX];   /* of a refusal; "" none */
	char message[KEYS_MESSAGE_MAX]; /* its words, as they came: not yet for people */
};
void keys_answer_wipe(struct keys_answer *);
/*
 * 0: keys are set, or code is. -1 (PROTOCOL): it is neither; err says why and repeats nothing of it. Whatever comes, the
 * caller wipes the answer.
 */
int keys_answer_json(const char *p, size_t n, int64_t now_ns, struct keys_answer *, struct err *);
/* AssumeRole's and AssumeRoleWithWebIdentity's answers, and ErrorResponse. */
int keys_answer_xml(const char *p, size_t n, int64_t now_ns, struct keys_answer *, struct err *);
/* What a refusal of STS means for the job: its code, else the status, as S3 means them. */
enum err_class keys_answer_class(const char *code, long status);

#endif
