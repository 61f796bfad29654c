import CoreGraphics
import CoreML
import Foundation
import Vision

/// How photos were prepared for the network: the short side, then (height, width) of the centre.
struct Preprocessing: Decodable {
    let resize: Int
    let crop: [Int]
}

public enum ContractError: Error {
    case differs(String)
}

/// A shipped Core ML file behind Vision. Sizes and preprocessing are read from the file.
public final class PhotoModel {
    public let model: MLModel
    public let width: Int
    public let height: Int
    private let covered: CGSize
    private let vision: VNCoreMLModel

    /// - Parameter compiled: what Xcode or `MLModel.compileModel(at:)` makes of the file.
    public init(contentsOf compiled: URL) throws {
        model = try MLModel(contentsOf: compiled)
        vision = try VNCoreMLModel(for: model)
        let description = model.modelDescription
        let metadata = description.metadata[.creatorDefinedKey] as? [String: String]
        guard let picture = description.inputDescriptionsByName[Contract.input]?.imageConstraint,
              let said = metadata?[Contract.preprocessing]
        else { throw ContractError.differs("no picture goes in, or the file does not say how photos are prepared") }
        let how = try JSONDecoder().decode(Preprocessing.self, from: Data(said.utf8))
        guard how.crop.count == 2 else { throw ContractError.differs("a crop has a height and a width") }
        width = picture.pixelsWide
        height = picture.pixelsHigh
        covered = CGSize(
            width: (Double(how.resize * width) / Double(how.crop[1])).rounded(.toNearestOrEven),
            height: (Double(how.resize * height) / Double(how.crop[0])).rounded(.toNearestOrEven)
        )
    }

    /// The photo resized so that it just covers what the network was trained on, then its centre.
    ///
    /// Vision's own `.centerCrop` leaves out the margin. The photo is to be upright: a `CGImage` does not know how the
    /// camera was held.
    public func crop(_ photo: CGImage) throws -> CGImage {
        let scale = max(covered.width / CGFloat(photo.width), covered.height / CGFloat(photo.height))
        let full = CGSize(
            width: (CGFloat(photo.width) * scale).rounded(.toNearestOrEven),
            height: (CGFloat(photo.height) * scale).rounded(.toNearestOrEven)
        )
        let left = ((full.width - CGFloat(width)) / 2).rounded(.down)
        let below = ((full.height - CGFloat(height)) / 2).rounded(.up)  // y goes upwards
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
              let context = CGContext(
                data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
              )
        else { throw ContractError.differs("no picture of \(width)x\(height) can be drawn") }
        context.interpolationQuality = .high
        context.draw(photo, in: CGRect(origin: CGPoint(x: -left, y: -below), size: full))
        guard let cut = context.makeImage() else { throw ContractError.differs("the photo cannot be drawn") }
        return cut
    }

    /// Every class, the most probable first. Like those below, of a photo that is cut already.
    public func classify(_ cut: CGImage) throws -> [VNClassificationObservation] {
        let description = model.modelDescription
        guard description.predictedFeatureName == Contract.label,
              description.predictedProbabilitiesName == Contract.probabilities
        else { throw ContractError.differs("the file is no classifier with labels") }
        return try results(cut)
    }

    /// The scores of each class at each place of the map.
    public func segment(_ cut: CGImage) throws -> MLMultiArray {
        let found: [VNCoreMLFeatureValueObservation] = try results(cut)
        guard let map = found.first(where: { $0.featureName == Contract.map })?.featureValue.multiArrayValue
        else { throw ContractError.differs("the file gives no map") }
        return map
    }

    /// Boxes with labels, in units of the cut picture, from its lower left.
    public func detect(_ cut: CGImage, confidence: Double, overlap: Double) throws -> [VNRecognizedObjectObservation] {
        vision.featureProvider = try MLDictionaryFeatureProvider(dictionary: [
            Contract.confidenceThreshold: confidence, Contract.iouThreshold: overlap,
        ])
        return try results(cut)
    }

    private func results<Observation: VNObservation>(_ cut: CGImage) throws -> [Observation] {
        let request = VNCoreMLRequest(model: vision)
        request.imageCropAndScaleOption = .scaleFill  // the size is right already
        try VNImageRequestHandler(cgImage: cut).perform([request])
        guard let found = request.results as? [Observation]
        else { throw ContractError.differs("Vision makes something else of this file") }
        return found
    }
}
