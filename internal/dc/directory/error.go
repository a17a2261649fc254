package directory

import (
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Code is an LDAP result code: RFC 4511, Section 4.1.9.
type Code int

// The result codes that the directory gives.
const (
	Success                      Code = 0
	OperationsError              Code = 1
	TimeLimitExceeded            Code = 3
	SizeLimitExceeded            Code = 4
	Referral                     Code = 10
	AdminLimitExceeded           Code = 11
	UnavailableCriticalExtension Code = 12
	ConfidentialityRequired      Code = 13
	NoSuchAttribute              Code = 16
	UndefinedAttributeType       Code = 17
	ConstraintViolation          Code = 19
	AttributeOrValueExists       Code = 20
	InvalidAttributeSyntax       Code = 21
	NoSuchObject                 Code = 32
	InvalidDNSyntax              Code = 34
	InsufficientAccessRights     Code = 50
	Busy                         Code = 51
	Unavailable                  Code = 52
	UnwillingToPerform           Code = 53
	NamingViolation              Code = 64
	ObjectClassViolation         Code = 65
	NotAllowedOnNonLeaf          Code = 66
	NotAllowedOnRDN              Code = 67
	EntryAlreadyExists           Code = 68
	ObjectClassModsProhibited    Code = 69
	Other                        Code = 80
)

// Win32 is a Windows error code as it stands in front of AD's diagnostic messages:
// [MS-ERREF] 2.2.
type Win32 uint32

// The Windows error codes that clients look for in diagnostic messages.
const (
	Win32AccessDenied        Win32 = 0x00000005 // ERROR_ACCESS_DENIED
	Win32NotSupported        Win32 = 0x00000032 // ERROR_NOT_SUPPORTED
	Win32InvalidParameter    Win32 = 0x00000057 // ERROR_INVALID_PARAMETER
	Win32PasswordRestriction Win32 = 0x0000052D // ERROR_PASSWORD_RESTRICTION
	Win32NoSuchAttribute     Win32 = 0x0000200A // ERROR_DS_NO_ATTRIBUTE_OR_VALUE
	Win32InvalidSyntax       Win32 = 0x0000200B // ERROR_DS_INVALID_ATTRIBUTE_SYNTAX
	Win32UndefinedType       Win32 = 0x0000200C // ERROR_DS_ATTRIBUTE_TYPE_UNDEFINED
	Win32ValueExists         Win32 = 0x0000200D // ERROR_DS_ATTRIBUTE_OR_VALUE_EXISTS
	Win32Busy                Win32 = 0x0000200E // ERROR_DS_BUSY
	Win32ClassViolation      Win32 = 0x00002014 // ERROR_DS_OBJ_CLASS_VIOLATION
	Win32NonLeaf             Win32 = 0x00002015 // ERROR_DS_CANT_ON_NON_LEAF
	Win32OnRDN               Win32 = 0x00002016 // ERROR_DS_CANT_ON_RDN
	Win32ClassMods           Win32 = 0x00002017 // ERROR_DS_CANT_MOD_OBJ_CLASS
	Win32Operations          Win32 = 0x00002020 // ERROR_DS_OPERATIONS_ERROR
	Win32Referral            Win32 = 0x0000202B // ERROR_DS_REFERRAL
	Win32AdminLimit          Win32 = 0x00002024 // ERROR_DS_ADMIN_LIMIT_EXCEEDED
	Win32Constraint          Win32 = 0x0000202F // ERROR_DS_CONSTRAINT_VIOLATION
	Win32Confidentiality     Win32 = 0x0000202D // ERROR_DS_CONFIDENTIALITY_REQUIRED
	Win32NoSuchObject        Win32 = 0x00002030 // ERROR_DS_NO_SUCH_OBJECT
	Win32InvalidDN           Win32 = 0x00002032 // ERROR_DS_INVALID_DN_SYNTAX
	Win32Unwilling           Win32 = 0x00002035 // ERROR_DS_UNWILLING_TO_PERFORM
	Win32Naming              Win32 = 0x00002037 // ERROR_DS_NAMING_VIOLATION
	Win32ObjectNotFound      Win32 = 0x0000208D // ERROR_DS_OBJ_NOT_FOUND
	Win32InsufficientRights  Win32 = 0x00002098 // ERROR_DS_INSUFF_ACCESS_RIGHTS
	Win32ObjectExists        Win32 = 0x00002071 // ERROR_DS_OBJ_STRING_NAME_EXISTS
	Win32GeneralFailure      Win32 = 0x0000001F // ERROR_GEN_FAILURE
	Win32NotAuthenticated    Win32 = 0x000004DC // ERROR_NOT_AUTHENTICATED
	Win32UserExists          Win32 = 0x00000524 // ERROR_USER_EXISTS
	Win32NotMember           Win32 = 0x00000561 // ERROR_MEMBER_NOT_IN_ALIAS
	Win32IsMember            Win32 = 0x00000562 // ERROR_MEMBER_IN_ALIAS
	Win32SingleValue         Win32 = 0x00002081 // ERROR_DS_SINGLE_VALUE_CONSTRAINT
	Win32OwnedBySAM          Win32 = 0x0000209A // ERROR_DS_ATTRIBUTE_OWNED_BY_SAM
	Win32SystemOnly          Win32 = 0x000020B1 // ERROR_DS_CANT_MOD_SYSTEM_ONLY
	Win32NameReference       Win32 = 0x000020B5 // ERROR_DS_NAME_REFERENCE_INVALID
	Win32GroupType           Win32 = 0x00002141 // ERROR_DS_INVALID_GROUP_TYPE
	Win32SPNNotUnique        Win32 = 0x000021C7 // ERROR_DS_SPN_VALUE_NOT_UNIQUE_IN_FOREST
	Win32UPNNotUnique        Win32 = 0x000021C8 // ERROR_DS_UPN_VALUE_NOT_UNIQUE_IN_FOREST
	Win32NoKey               Win32 = 0x8009000D // NTE_NO_KEY
)

// Error is how an operation fails: the result that the client is told, and the cause,
// which is for our own log.
type Error struct {
	Code  Code
	Win32 Win32
	// Message is for the client; it tells nothing that the client may not read.
	Message string
	// Matched is the name of the nearest object above that exists, with NoSuchObject.
	Matched string
	// Referral is the URL of where to ask, with Referral.
	Referral string
	// Err is the cause, nil where Message says all.
	Err error
}

// Error gives the code, the message and the cause.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s (LDAP %d)", e.Diagnostic(), e.Code)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Diagnostic is the diagnosticMessage of the LDAP result, in the form that AD's
// clients take apart: the Windows code in eight hexadecimal digits, a colon, the text.
func (e *Error) Diagnostic() string {
	if e.Win32 == 0 {
		return e.Message
	}
	return fmt.Sprintf("%08X: %s", uint32(e.Win32), e.Message)
}

// Errorf makes an Error.
func Errorf(code Code, win32 Win32, format string, args ...any) *Error {
	return &Error{Code: code, Win32: win32, Message: fmt.Sprintf(format, args...)}
}

// AsError is the result of any error of the directory: itself, or the one that the
// errors of the packages below stand for. What none of them explains is
// OperationsError with a message that tells nothing.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if c, ok := errors.AsType[*rows.Conflict](err); ok {
		return conflict(c.Attribute.Name, c.Value, err)
	}
	for _, k := range known() {
		if errors.Is(err, k.err) {
			return &Error{Code: k.code, Win32: k.win32, Message: k.err.Error(), Err: err}
		}
	}
	return &Error{Code: OperationsError, Win32: Win32Operations, Message: "the directory failed", Err: err}
}

// conflict is the result of a value that another object has, in the codes that AD has
// for the attribute: [MS-ADTS] 3.1.1.5.1.3.
func conflict(attribute string, value []byte, cause error) *Error {
	e := &Error{Code: ConstraintViolation, Win32: Win32Constraint, Err: cause,
		Message: fmt.Sprintf("%s[%s] would cause a conflict", attribute, value)}
	switch attribute {
	case "sAMAccountName":
		e.Code, e.Win32 = EntryAlreadyExists, Win32UserExists
	case "servicePrincipalName":
		e.Win32 = Win32SPNNotUnique
	case "userPrincipalName":
		e.Win32 = Win32UPNNotUnique
	}
	return e
}

// A knownError is an error of a package below with the result that it stands for.
type knownError struct {
	err   error
	code  Code
	win32 Win32
}

func known() []knownError {
	return []knownError{
		{rows.ErrNotFound, NoSuchObject, Win32ObjectNotFound},
		{rows.ErrExists, EntryAlreadyExists, Win32ObjectExists},
		{rows.ErrHasChildren, NotAllowedOnNonLeaf, Win32NonLeaf},
		{rows.ErrCycle, UnwillingToPerform, Win32Unwilling},
		{rows.ErrTooWide, AdminLimitExceeded, Win32AdminLimit},
		{schema.ErrClass, ObjectClassViolation, Win32ClassViolation},
		{schema.ErrNaming, NamingViolation, Win32Naming},
		{schema.ErrSyntax, InvalidAttributeSyntax, Win32InvalidSyntax},
		{schema.ErrRange, ConstraintViolation, Win32Constraint},
		{store.ErrTooLarge, AdminLimitExceeded, Win32AdminLimit},
		{store.ErrClosed, Unavailable, 0},
	}
}
