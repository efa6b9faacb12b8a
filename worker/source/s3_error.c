/*
 * s3_error.c - what the errors of S3 mean: their codes and, where an answer has none that is known, the HTTP status.
 *
 * s3_list.c asks. Codes and statuses are those of the S3 API reference, "Error responses", "List of error codes";
 * whether one is asked again follows its words there and "Amazon S3 error best practices".
 */
#include <string.h>

#include "worker/source/s3.h"
#include "common/xalloc.h"
#include "common/banned.h"

static const struct {
	const char *code;
	struct s3_failure is;
} codes[] = {
	{ "AccessDenied", { .cls = ERR_AUTH } },
	{ "AccessForbidden", { .cls = ERR_AUTH } },
	{ "AccountProblem", { .cls = ERR_AUTH } },
	{ "AllAccessDisabled", { .cls = ERR_AUTH } },
	{ "AuthorizationHeaderMalformed", { .cls = ERR_AUTH, .region = true } },
	{ "CredentialsNotSupported", { .cls = ERR_AUTH } },
	{ "CrossLocationLoggingProhibited", { .cls = ERR_AUTH } },
	{ "ExpiredToken", { .cls = ERR_AUTH, .stale = true } },
	{ "InvalidAccessKeyId", { .cls = ERR_AUTH, .stale = true } },
	{ "InvalidPayer", { .cls = ERR_AUTH } },
	{ "InvalidSecurity", { .cls = ERR_AUTH } },
	{ "InvalidToken", { .cls = ERR_AUTH, .stale = true } },
	{ "MissingSecurityHeader", { .cls = ERR_AUTH } },
	{ "NotSignedUp", { .cls = ERR_AUTH } },
	{ "RequestExpired", { .cls = ERR_AUTH } },
	{ "RequestTimeTooSkewed", { .cls = ERR_AUTH } },
	{ "SignatureDoesNotMatch", { .cls = ERR_AUTH } },
	{ "TokenRefreshRequired", { .cls = ERR_AUTH, .stale = true } },
	{ "UnauthorizedAccess", { .cls = ERR_AUTH } },
	{ "NoSuchBucket", { .cls = ERR_NOT_FOUND } },
	{ "NoSuchKey", { .cls = ERR_NOT_FOUND } },
	{ "NoSuchUpload", { .cls = ERR_NOT_FOUND } },
	{ "NoSuchVersion", { .cls = ERR_NOT_FOUND } },
	{ "IllegalLocationConstraintException", { .cls = ERR_PERMANENT, .region = true } },
	{ "InvalidArgument", { .cls = ERR_PERMANENT, .v1 = true } },
	{ "InvalidBucketName", { .cls = ERR_PERMANENT } },
	{ "InvalidObjectState", { .cls = ERR_PERMANENT } },
	{ "InvalidRegion", { .cls = ERR_PERMANENT, .region = true } },
	{ "InvalidRequest", { .cls = ERR_PERMANENT, .v1 = true } },
	{ "InvalidURI", { .cls = ERR_PERMANENT } },
	{ "MethodNotAllowed", { .cls = ERR_PERMANENT } },
	{ "NotImplemented", { .cls = ERR_PERMANENT, .v1 = true } },
	{ "PermanentRedirect", { .cls = ERR_PERMANENT, .region = true } },
	{ "Redirect", { .cls = ERR_PERMANENT, .region = true } },
	{ "TemporaryRedirect", { .cls = ERR_TRANSIENT, .region = true } },
	{ "BandwidthLimitExceeded", { .cls = ERR_TRANSIENT, .again = true } },
	{ "Busy", { .cls = ERR_TRANSIENT, .again = true } },
	{ "InternalError", { .cls = ERR_TRANSIENT, .again = true } },
	{ "OperationAborted", { .cls = ERR_TRANSIENT, .again = true } },
	{ "RequestTimeout", { .cls = ERR_TRANSIENT, .again = true } },
	{ "ServiceUnavailable", { .cls = ERR_TRANSIENT, .again = true } },
	{ "SlowDown", { .cls = ERR_TRANSIENT, .again = true } },
	{ "503 SlowDown", { .cls = ERR_TRANSIENT, .again = true } },
	{ "Throttling", { .cls = ERR_TRANSIENT, .again = true } },
	{ "ThrottlingException", { .cls = ERR_TRANSIENT, .again = true } },
	{ "TooManyRequests", { .cls = ERR_TRANSIENT, .again = true } },
};

/* RFC 9110, section 15, and RFC 6585 for 429 */
static const struct {
	long status;
	struct s3_failure is;
} statuses[] = {
	{ 301, { .cls = ERR_PERMANENT, .region = true } },
	{ 302, { .cls = ERR_PERMANENT, .region = true } },
	{ 307, { .cls = ERR_TRANSIENT, .region = true } },
	{ 308, { .cls = ERR_PERMANENT, .region = true } },
	{ 400, { .cls = ERR_PERMANENT, .v1 = true } },
	{ 401, { .cls = ERR_AUTH } },
	{ 403, { .cls = ERR_AUTH } },
	{ 404, { .cls = ERR_NOT_FOUND } },
	{ 407, { .cls = ERR_AUTH } },
	{ 408, { .cls = ERR_TRANSIENT, .again = true } },
	{ 425, { .cls = ERR_TRANSIENT, .again = true } },
	{ 429, { .cls = ERR_TRANSIENT, .again = true } },
	{ 500, { .cls = ERR_TRANSIENT, .again = true } },
	{ 501, { .cls = ERR_PERMANENT, .v1 = true } },
	{ 502, { .cls = ERR_TRANSIENT, .again = true } },
	{ 503, { .cls = ERR_TRANSIENT, .again = true } },
	{ 504, { .cls = ERR_TRANSIENT, .again = true } },
};

struct s3_failure
s3_failure_of(const char *code, size_t n, long status)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (strlen(codes[i].code) == n && !memcmp(codes[i].code, code, n))
			return codes[i].is;
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].is;
	if (status >= 400 && status < 500)
		return (struct s3_failure){ .cls = ERR_PERMANENT };
	if (status >= 500 && status < 600)
		return (struct s3_failure){ .cls = ERR_TRANSIENT, .again = true };
	return (struct s3_failure){ .cls = ERR_PROTOCOL };
}
