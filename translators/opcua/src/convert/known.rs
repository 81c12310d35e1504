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
        ("Low", One(Scalar::Double)), ("High", One(Scalar::Double)),
    ]),
    (Type::EUInformation, Object::EUInformation_Encoding_DefaultBinary, "EUInformation", &[
        ("NamespaceUri", One(Scalar::String)), ("UnitId", One(Scalar::Int32)),
        ("DisplayName", One(Scalar::LocalizedText)), ("Description", One(Scalar::LocalizedText)),
    ]),
    (Type::AxisInformation, Object::AxisInformation_Encoding_DefaultBinary, "AxisInformation", &[
        ("EngineeringUnits", A(Type::EUInformation)), ("EURange", A(Type::Range)),
        ("Title", One(Scalar::LocalizedText)), ("AxisScaleType", One(Scalar::Int32)),
        ("AxisSteps", Many(Scalar::Double)),
    ]),
    (Type::XVType, Object::XVType_Encoding_DefaultBinary, "XVType", &[
        ("X", One(Scalar::Double)), ("Value", One(Scalar::Float)),
    ]),
    (Type::ComplexNumberType, Object::ComplexNumberType_Encoding_DefaultBinary, "ComplexNumberType", &[
        ("Real", One(Scalar::Float)), ("Imaginary", One(Scalar::Float)),
    ]),
    (Type::DoubleComplexNumberType, Object::DoubleComplexNumberType_Encoding_DefaultBinary, "DoubleComplexNumberType", &[
        ("Real", One(Scalar::Double)), ("Imaginary", One(Scalar::Double)),
    ]),
    (Type::TimeZoneDataType, Object::TimeZoneDataType_Encoding_DefaultBinary, "TimeZoneDataType", &[
        ("Offset", One(Scalar::Int16)), ("DaylightSavingInOffset", One(Scalar::Boolean)),
    ]),
    (Type::EnumValueType, Object::EnumValueType_Encoding_DefaultBinary, "EnumValueType", &[
        ("Value", One(Scalar::Int64)), ("DisplayName", One(Scalar::LocalizedText)),
        ("Description", One(Scalar::LocalizedText)),
    ]),
    (Type::Argument, Object::Argument_Encoding_DefaultBinary, "Argument", &[
        ("Name", One(Scalar::String)), ("DataType", One(Scalar::NodeId)),
        ("ValueRank", One(Scalar::Int32)), ("ArrayDimensions", Many(Scalar::UInt32)),
        ("Description", One(Scalar::LocalizedText)),
    ]),
    (Type::BuildInfo, Object::BuildInfo_Encoding_DefaultBinary, "BuildInfo", &[
        ("ProductUri", One(Scalar::String)), ("ManufacturerName", One(Scalar::String)),
        ("ProductName", One(Scalar::String)), ("SoftwareVersion", One(Scalar::String)),
        ("BuildNumber", One(Scalar::String)), ("BuildDate", One(Scalar::DateTime)),
    ]),
    (Type::ServerStatusDataType, Object::ServerStatusDataType_Encoding_DefaultBinary, "ServerStatusDataType", &[
        ("StartTime", One(Scalar::DateTime)), ("CurrentTime", One(Scalar::DateTime)),
        ("State", One(Scalar::Int32)), ("BuildInfo", A(Type::BuildInfo)),
        ("SecondsTillShutdown", One(Scalar::UInt32)), ("ShutdownReason", One(Scalar::LocalizedText)),
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
