//! Structures of the specification that variables hold, for servers that do not define them.
//!
//! From Opc.Ua.Types.bsd 1.05 (Part 5, 12; Part 8, 5.6).

use opcua::types::{DataTypeId, NodeId, ObjectId};

use super::definition::{Field, Kind, Scalar, Shape, Structure, Types};

type Fields = &'static [(&'static str, Is)];

/// What a field is.
#[derive(Clone, Copy)]
enum Is {
    One(Scalar),
    Many(Scalar),
    /// One that stands above in the list.
    A(DataTypeId),
}

use DataTypeId as Type;
use Is::{A, Many, One};
use ObjectId as Object;

#[rustfmt::skip]
const KNOWN: &[(Type, Object, &str, Fields)] = &[
    (Type::Range, Object::Range_Encoding_DefaultBinary, "Range", &[
        ("low", One(Scalar::Double)), ("high", One(Scalar::Double)),
    ]),
    (Type::EUInformation, Object::EUInformation_Encoding_DefaultBinary, "EUInformation", &[
        ("namespaceUri", One(Scalar::String)), ("unitId", One(Scalar::Int32)),
        ("displayName", One(Scalar::LocalizedText)), ("description", One(Scalar::LocalizedText)),
    ]),
    (Type::AxisInformation, Object::AxisInformation_Encoding_DefaultBinary, "AxisInformation", &[
        ("engineeringUnits", A(Type::EUInformation)), ("eURange", A(Type::Range)),
        ("title", One(Scalar::LocalizedText)), ("axisScaleType", One(Scalar::Int32)),
        ("axisSteps", Many(Scalar::Double)),
    ]),
    (Type::XVType, Object::XVType_Encoding_DefaultBinary, "XVType", &[
        ("x", One(Scalar::Double)), ("value", One(Scalar::Float)),
    ]),
    (Type::ComplexNumberType, Object::ComplexNumberType_Encoding_DefaultBinary, "ComplexNumberType", &[
        ("real", One(Scalar::Float)), ("imaginary", One(Scalar::Float)),
    ]),
    (Type::DoubleComplexNumberType, Object::DoubleComplexNumberType_Encoding_DefaultBinary, "DoubleComplexNumberType", &[
        ("real", One(Scalar::Double)), ("imaginary", One(Scalar::Double)),
    ]),
    (Type::TimeZoneDataType, Object::TimeZoneDataType_Encoding_DefaultBinary, "TimeZoneDataType", &[
        ("offset", One(Scalar::Int16)), ("daylightSavingInOffset", One(Scalar::Boolean)),
    ]),
    (Type::EnumValueType, Object::EnumValueType_Encoding_DefaultBinary, "EnumValueType", &[
        ("value", One(Scalar::Int64)), ("displayName", One(Scalar::LocalizedText)),
        ("description", One(Scalar::LocalizedText)),
    ]),
    (Type::Argument, Object::Argument_Encoding_DefaultBinary, "Argument", &[
        ("name", One(Scalar::String)), ("dataType", One(Scalar::NodeId)),
        ("valueRank", One(Scalar::Int32)), ("arrayDimensions", Many(Scalar::UInt32)),
        ("description", One(Scalar::LocalizedText)),
    ]),
    (Type::BuildInfo, Object::BuildInfo_Encoding_DefaultBinary, "BuildInfo", &[
        ("productUri", One(Scalar::String)), ("manufacturerName", One(Scalar::String)),
        ("productName", One(Scalar::String)), ("softwareVersion", One(Scalar::String)),
        ("buildNumber", One(Scalar::String)), ("buildDate", One(Scalar::DateTime)),
    ]),
    (Type::ServerStatusDataType, Object::ServerStatusDataType_Encoding_DefaultBinary, "ServerStatusDataType", &[
        ("startTime", One(Scalar::DateTime)), ("currentTime", One(Scalar::DateTime)),
        ("state", One(Scalar::Int32)), ("buildInfo", A(Type::BuildInfo)),
        ("secondsTillShutdown", One(Scalar::UInt32)), ("shutdownReason", One(Scalar::LocalizedText)),
    ]),
];

/// The types that every session knows.
pub(super) fn types() -> Types {
    let mut types = Types::default();
    for (data_type, encoding, name, fields) in KNOWN {
        let fields = fields.iter().map(|(name, is)| {
            let (kind, rank) = match is {
                One(scalar) => (Kind::Scalar(*scalar), -1),
                Many(scalar) => (Kind::Scalar(*scalar), 1),
                A(structure) => (Kind::Structure(types.reserve(NodeId::from(*structure))), -1),
            };
            Field::new(name, kind, rank, false)
        });
        let fields = fields.collect();
        let place = types.reserve(NodeId::from(*data_type));
        types.define(place, Structure { name: (*name).into(), shape: Shape::Plain, fields });
        types.encoded_as(NodeId::from(*encoding), place);
    }
    types
}
