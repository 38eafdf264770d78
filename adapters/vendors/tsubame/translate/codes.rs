//! The vendor's codes as codes of the standard.
//! Rows were checked before: a code that is not in a list here is one that the standard lacks.
//! It must never map two different meanings to one code.
//! Read next: `record.rs`.

use musubi_proto::standard::common::v1::{
    DeletionReason, ForeignCategory, Gender, MoveReason, NoticeKind, ProtectionLevel,
    ResidentState, ResidentType, StatusOfResidence, SupportRole, SupportScope,
};

/// 異動事由. The vendor's 60 to 64 are none by the official list: they stay unspecified.
pub(super) fn move_reason(code: &str) -> i32 {
    let reason = match code {
        "26" => Some(MoveReason::IdoTorikeshiGen),
        "60" | "61" | "62" | "63" | "64" => None,
        _ => code
            .parse()
            .ok()
            .and_then(|number: i32| MoveReason::try_from(number).ok()),
    };
    reason.unwrap_or(MoveReason::Unspecified).into()
}

/// 住民種別.
pub(super) fn resident_type(code: &str) -> ResidentType {
    match code {
        "1" => ResidentType::Japanese,
        "2" => ResidentType::Foreign,
        _ => ResidentType::Unspecified,
    }
}

/// 住民状態.
pub(super) fn resident_state(code: &str) -> ResidentState {
    match code {
        "1" => ResidentState::Resident,
        "2" => ResidentState::MovedOut,
        "3" => ResidentState::Died,
        "9" => ResidentState::Deleted,
        _ => ResidentState::Unspecified,
    }
}

/// 性別.
pub(super) fn gender(code: &str) -> Gender {
    match code {
        "1" => Gender::Male,
        "2" => Gender::Female,
        "0" => Gender::NotStated,
        _ => Gender::Unspecified,
    }
}

/// 届出区分.
pub(super) fn notice_kind(code: &str) -> NoticeKind {
    match code {
        "1" => NoticeKind::Todokede,
        "2" => NoticeKind::Moshide,
        "3" => NoticeKind::Seikyu,
        "4" => NoticeKind::Tsuchi,
        "5" => NoticeKind::Shokken,
        _ => NoticeKind::Unspecified,
    }
}

/// 消除事由.
pub(super) fn deletion_reason(code: &str) -> DeletionReason {
    match code {
        "20" => DeletionReason::DomesticMoveOut,
        "21" => DeletionReason::MoveAbroad,
        "22" => DeletionReason::Death,
        "23" => DeletionReason::Naturalization,
        "24" => DeletionReason::NationalityLoss,
        "25" => DeletionReason::FactFinding,
        "26" => DeletionReason::Cancelled,
        "07" | "08" => DeletionReason::Recompiled,
        "" => DeletionReason::Unspecified,
        _ => DeletionReason::Other,
    }
}

/// 支援措置区分: an ended measure protects no more.
pub(super) fn protection_level(code: &str) -> ProtectionLevel {
    match code {
        "0" | "3" => ProtectionLevel::None,
        "1" => ProtectionLevel::Provisional,
        "2" => ProtectionLevel::Active,
        _ => ProtectionLevel::Unspecified,
    }
}

/// 支援措置対象者区分.
pub(super) fn support_role(code: &str) -> SupportRole {
    match code {
        "1" => SupportRole::Applicant,
        "2" => SupportRole::Accompanying,
        _ => SupportRole::Unspecified,
    }
}

/// 支援措置対象範囲: five flags.
pub(super) fn support_scopes(flags: &str) -> Vec<i32> {
    const SCOPES: [SupportScope; 5] = [
        SupportScope::RegisterInspectionCurrent,
        SupportScope::CertificateCurrent,
        SupportScope::CertificatePrevious,
        SupportScope::SupplementaryHonseki,
        SupportScope::SupplementaryPreviousHonseki,
    ];
    SCOPES
        .into_iter()
        .zip(flags.bytes())
        .filter(|(_, flag)| *flag == b'1')
        .map(|(scope, _)| scope.into())
        .collect()
}

/// 第30条の45規定区分.
pub(super) fn foreign_category(code: &str) -> ForeignCategory {
    match code {
        "1" => ForeignCategory::MidToLongTerm,
        "2" => ForeignCategory::SpecialPermanent,
        "3" => ForeignCategory::TemporaryRefuge,
        "4" => ForeignCategory::ProvisionalStay,
        "5" => ForeignCategory::TransitionalBirth,
        "6" => ForeignCategory::TransitionalNationalityLoss,
        _ => ForeignCategory::Unspecified,
    }
}

/// 在留資格. A wording that is not in the list is refused when the row is checked.
pub(in crate::vendors::tsubame) fn status_of_residence(text: &str) -> StatusOfResidence {
    use StatusOfResidence as Status;
    match text {
        "外交" => Status::Diplomat,
        "公用" => Status::Official,
        "教授" => Status::Professor,
        "芸術" => Status::Artist,
        "宗教" => Status::Religious,
        "報道" => Status::Journalist,
        "高度専門職１号イ" => Status::HighlySkilled1I,
        "高度専門職１号ロ" => Status::HighlySkilled1Ro,
        "高度専門職１号ハ" => Status::HighlySkilled1Ha,
        "高度専門職２号" => Status::HighlySkilled2,
        "経営・管理" => Status::BusinessManager,
        "法律・会計業務" => Status::LegalAccounting,
        "医療" => Status::Medical,
        "研究" => Status::Researcher,
        "教育" => Status::Instructor,
        "技術・人文知識・国際業務" => Status::EngineerHumanitiesInternational,
        "企業内転勤" => Status::IntraCompanyTransferee,
        "介護" => Status::NursingCare,
        "興行" => Status::Entertainer,
        "技能" => Status::SkilledLabor,
        "特定技能" => Status::SpecifiedSkilled,
        "技能実習" => Status::TechnicalIntern,
        "特定技能１号" => Status::SpecifiedSkilled1,
        "特定技能２号" => Status::SpecifiedSkilled2,
        "技能実習１号イ" => Status::TechnicalIntern1I,
        "技能実習１号ロ" => Status::TechnicalIntern1Ro,
        "技能実習２号イ" => Status::TechnicalIntern2I,
        "技能実習２号ロ" => Status::TechnicalIntern2Ro,
        "技能実習３号イ" => Status::TechnicalIntern3I,
        "技能実習３号ロ" => Status::TechnicalIntern3Ro,
        "育成就労" => Status::EmploymentForSkillDevelopment,
        "文化活動" => Status::CulturalActivities,
        "短期滞在" => Status::TemporaryVisitor,
        "留学" => Status::Student,
        "研修" => Status::Trainee,
        "家族滞在" => Status::Dependent,
        "特定活動" => Status::DesignatedActivities,
        "永住者" => Status::PermanentResident,
        "日本人の配偶者等" => Status::SpouseOfJapanese,
        "永住者の配偶者等" => Status::SpouseOfPermanentResident,
        "定住者" => Status::LongTermResident,
        "特別永住者" => Status::SpecialPermanentResident,
        _ => Status::Unspecified,
    }
}
